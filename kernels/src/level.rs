//! Which vector instructions the processor has.

use std::fmt;
use std::sync::LazyLock;

/// A set of vector instructions that this processor has. It can only be made for instructions that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Level(pub(crate) Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What every processor of this architecture has: SSE2, NEON on 64-bit ARM, or plain numbers.
    Baseline,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with its parts F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

static BEST: LazyLock<Level> = LazyLock::new(|| *Level::all().last().expect("there is always the baseline"));

impl Level {
    /// The fastest one.
    pub fn best() -> Level {
        *BEST
    }

    /// All that this processor has, the slowest first.
    pub fn all() -> Vec<Level> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
        let mut all = vec![Kind::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let has_avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if has_avx2 {
                all.push(Kind::Avx2);
            }
            if has_avx2 && has_avx512 {
                all.push(Kind::Avx512);
            }
        }
        all.into_iter().map(Level).collect()
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Compiles generic code for each level: `for_levels! { fn name(arguments) = body; }` makes a function `name` from
/// `fn body<V: Simd>(arguments)`, which must be `#[inline(always)]`. Its first argument is the level.
macro_rules! for_levels {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:ident;) => {
        $(#[$meta])*
        $visibility fn $name(level: $crate::level::Level, $($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $result)? {
                $body::<$crate::simd::Avx2>($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($argument: $type),*) $(-> $result)? {
                $body::<$crate::simd::Avx512>($($argument),*)
            }
            match level.0 {
                $crate::level::Kind::Baseline => $body::<$crate::simd::Baseline>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: a `Level` is only made for instructions that the processor has.
                $crate::level::Kind::Avx2 => unsafe { avx2($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::level::Kind::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    };
}
pub(crate) use for_levels;
