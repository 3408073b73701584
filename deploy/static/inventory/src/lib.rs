//! What tract uses of the crate `inventory`, without the entries of [`LEFT_OUT`]: see Cargo.toml.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

/// Crates whose entries nobody asks for.
const LEFT_OUT: [&str; 2] = ["tract-core", "tract-nnef"];

/// The entries of one type, in the order of the program's constructors.
#[doc(hidden)]
pub struct Registry<T: 'static>(Mutex<Vec<&'static T>>);

impl<T> Registry<T> {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Registry<T> {
        Registry(Mutex::new(Vec::new()))
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<&'static T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `collect!` makes of a type.
pub trait Collect: Sync + Sized + 'static {
    #[doc(hidden)]
    fn registry() -> &'static Registry<Self>;
}

/// Of a type that is known to its registry only.
#[doc(hidden)]
pub trait Entry: Sync {
    fn register(&'static self);
}

impl<T: Collect> Entry for T {
    fn register(&'static self) {
        T::registry().entries().push(self);
    }
}

#[doc(hidden)]
pub const fn is_left_out(package: &str) -> bool {
    let mut at = 0;
    while at < LEFT_OUT.len() {
        if equal(LEFT_OUT[at].as_bytes(), package.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

const fn equal(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    at == left.len() && at == right.len()
}

/// The constructor of an entry that is left out.
#[doc(hidden)]
pub extern "C" fn nothing() {}

#[macro_export]
macro_rules! collect {
    ($type:ty) => {
        impl $crate::Collect for $type {
            fn registry() -> &'static $crate::Registry<$type> {
                static REGISTRY: $crate::Registry<$type> = $crate::Registry::new();
                &REGISTRY
            }
        }
    };
}

#[macro_export]
macro_rules! submit {
    ($($value:tt)*) => {
        const _: () = {
            static ENTRY: &dyn $crate::Entry = &{ $($value)* };

            extern "C" fn register() {
                ENTRY.register();
            }

            #[used]
            #[unsafe(link_section = ".init_array")]
            static CONSTRUCTOR: extern "C" fn() =
                if $crate::is_left_out(env!("CARGO_PKG_NAME")) { $crate::nothing } else { register };
        };
    };
}

mod names {
    /// `iter::<T>` is a type, a value to iterate over and, as that value can be called, a function.
    #[allow(non_camel_case_types)]
    pub enum iter<T> {
        #[doc(hidden)]
        Never(std::marker::PhantomData<T>, std::convert::Infallible),
        iter,
    }

    #[doc(hidden)]
    pub use iter::*;
}

pub use names::*;

/// The newest first, as the original has it.
fn newest_first<T: Collect>() -> std::iter::Rev<std::vec::IntoIter<&'static T>> {
    T::registry().entries().clone().into_iter().rev()
}

impl<T: Collect> IntoIterator for iter<T> {
    type Item = &'static T;
    type IntoIter = std::iter::Rev<std::vec::IntoIter<&'static T>>;

    fn into_iter(self) -> Self::IntoIter {
        newest_first()
    }
}

impl<T: Collect> Deref for iter<T> {
    type Target = fn() -> std::iter::Rev<std::vec::IntoIter<&'static T>>;

    fn deref(&self) -> &Self::Target {
        &(newest_first as fn() -> std::iter::Rev<std::vec::IntoIter<&'static T>>)
    }
}
