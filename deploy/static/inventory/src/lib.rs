//! The part of the crate `inventory` that tract uses, without the entries of the crates in [`LEFT_OUT`]. Cargo.toml
//! says why. Nothing else belongs here.
//!
//! Invariant: an entry is registered before `main` starts, and entries are iterated in the order of the original.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

/// Crates whose entries onnxd never uses.
const LEFT_OUT: [&str; 2] = ["tract-core", "tract-nnef"];

/// The entries of one type, in the order in which the constructors of the program run.
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

/// A type with registered entries. Implemented by `collect!`.
pub trait Collect: Sync + Sized + 'static {
    #[doc(hidden)]
    fn registry() -> &'static Registry<Self>;
}

/// An entry whose type only its registry knows.
#[doc(hidden)]
pub trait Entry: Sync {
    fn register(&'static self);
}

impl<T: Collect> Entry for T {
    fn register(&'static self) {
        T::registry().entries().push(self);
    }
}

/// Whether the entries of a crate are left out.
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

/// Makes a registry for a type.
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

/// Registers a value, which must be a constant expression, before `main` starts.
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
    /// `iter::<T>` is a type and a value of it. The value can be iterated over, and it can be called like a function.
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

/// The entries in the order of the original: the last registered one first.
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
