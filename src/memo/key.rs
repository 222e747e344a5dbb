//! What a value is kept under: a digest over the name of what is kept, its version, whose it is and what it was asked with.
//! Every part goes in with its type and its length, so that no two askings meet in one digest.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::space::Space;

/// Whose a value is. Nothing is found in another scope than the one that it was kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope<'a> {
    /// Everybody's: for what depends on nobody.
    Public,
    /// A tenant's, whoever of it asks.
    Tenant(&'a str),
    /// One user's of a tenant.
    User(&'a str, Uuid),
}

impl<'a> Scope<'a> {
    /// The user's where there is one, else the tenant's.
    pub fn of(tenant: &'a str, user: Option<Uuid>) -> Self {
        user.map_or(Self::Tenant(tenant), |user| Self::User(tenant, user))
    }
}

impl CacheKey for Scope<'_> {
    fn feed(&self, writer: &mut KeyWriter) {
        match self {
            Self::Public => writer.variant(0),
            Self::Tenant(tenant) => {
                writer.variant(1);
                tenant.feed(writer);
            }
            Self::User(tenant, user) => {
                writer.variant(2);
                (tenant, user).feed(writer);
            }
        }
    }
}

/// Under which a value is kept. Cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// What it is called, here and in Redis.
    pub(super) name: [u8; 32],
    /// What only those know who ask for the same: values are sealed with it before they leave the process.
    pub(super) seal: [u8; 32],
    pub(super) space: Space,
}

impl Key {
    /// Of what `namespace` names, asked for in `scope` with `arguments`. Another `version` finds nothing of the ones before:
    /// change it with the form or the meaning of what is kept. It is kept in [`Space::General`].
    ///
    /// ```
    /// use ish::memo::{Key, Scope};
    ///
    /// let of = |scope, name: &str, page: u32| Key::of("invoices", 1, scope, &(name, page));
    /// assert_eq!(of(Scope::Tenant("acme"), "open", 2), of(Scope::Tenant("acme"), "open", 2));
    /// assert_ne!(of(Scope::Tenant("acme"), "open", 2), of(Scope::Tenant("umbrella"), "open", 2));
    /// ```
    pub fn of(namespace: &str, version: u32, scope: Scope<'_>, arguments: &(impl CacheKey + ?Sized)) -> Self {
        let mut writer = KeyWriter { hasher: blake3::Hasher::new_derive_key("ish memo v1 key") };
        (namespace, version, scope).feed(&mut writer);
        arguments.feed(&mut writer);
        let (mut name, mut seal) = ([0; 32], [0; 32]);
        let mut digest = writer.hasher.finalize_xof();
        digest.fill(&mut name);
        digest.fill(&mut seal);
        Self { name, seal, space: Space::General }
    }

    /// The same, kept in `space`.
    #[must_use]
    pub fn within(self, space: Space) -> Self {
        Self { space, ..self }
    }
}

/// What a value can be asked for with. Equal values feed the same, different values of one type never do.
///
/// A struct feeds its fields one after the other; an enum says first which [variant](KeyWriter::variant) it is.
///
/// ```
/// use ish::memo::{CacheKey, KeyWriter};
///
/// struct Period {
///     year: u16,
///     month: Option<u8>,
/// }
///
/// impl CacheKey for Period {
///     fn feed(&self, writer: &mut KeyWriter) {
///         (self.year, self.month).feed(writer);
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a cache's key",
    label = "not a `CacheKey`",
    note = "derive it: `#[derive(ish::CacheKey)]`, or implement `ish::memo::CacheKey`; an argument of `#[fast_endpoint]` can also be left out by `skip(..)`"
)]
pub trait CacheKey {
    /// Writes all of it that tells it from others.
    fn feed(&self, writer: &mut KeyWriter);
}

/// What a key is written into.
pub struct KeyWriter {
    hasher: blake3::Hasher,
}

impl KeyWriter {
    /// Bytes of a type that `kind` names; a number of yours from 64 on, where the type is yours.
    pub fn bytes(&mut self, kind: u8, bytes: &[u8]) {
        self.head(kind, bytes.len());
        self.hasher.update(bytes);
    }

    /// Which variant of an enum follows.
    pub fn variant(&mut self, number: u32) {
        self.bytes(kind::VARIANT, &number.to_le_bytes());
    }

    /// That so many parts follow.
    pub fn list(&mut self, length: usize) {
        self.head(kind::LIST, length);
    }

    fn head(&mut self, kind: u8, length: usize) {
        let mut head = [kind; 9];
        head[1..].copy_from_slice(&(length as u64).to_le_bytes());
        self.hasher.update(&head);
    }
}

/// Types, as written.
mod kind {
    pub const VARIANT: u8 = 1;
    pub const LIST: u8 = 2;
    pub const TEXT: u8 = 3;
    pub const SIGNED: u8 = 4;
    pub const UNSIGNED: u8 = 5;
    pub const FLOAT: u8 = 6;
    pub const UUID: u8 = 7;
    pub const DURATION: u8 = 8;
    pub const CHAR: u8 = 9;
}

macro_rules! numbers {
    ($($kind:ident: $($number:ty),*;)*) => {
        $($(impl CacheKey for $number {
            fn feed(&self, writer: &mut KeyWriter) {
                writer.bytes(kind::$kind, &self.to_le_bytes());
            }
        })*)*
    };
}

numbers! {
    SIGNED: i8, i16, i32, i64, i128;
    UNSIGNED: u8, u16, u32, u64, u128;
    // By their bits: 0 and -0 are two, and a NaN equals itself.
    FLOAT: f32, f64;
}

impl CacheKey for usize {
    fn feed(&self, writer: &mut KeyWriter) {
        (*self as u64).feed(writer);
    }
}

impl CacheKey for isize {
    fn feed(&self, writer: &mut KeyWriter) {
        (*self as i64).feed(writer);
    }
}

impl CacheKey for bool {
    fn feed(&self, writer: &mut KeyWriter) {
        writer.variant(u32::from(*self));
    }
}

impl CacheKey for char {
    fn feed(&self, writer: &mut KeyWriter) {
        writer.bytes(kind::CHAR, &u32::from(*self).to_le_bytes());
    }
}

impl CacheKey for str {
    fn feed(&self, writer: &mut KeyWriter) {
        writer.bytes(kind::TEXT, self.as_bytes());
    }
}

impl CacheKey for String {
    fn feed(&self, writer: &mut KeyWriter) {
        self.as_str().feed(writer);
    }
}

impl CacheKey for Uuid {
    fn feed(&self, writer: &mut KeyWriter) {
        writer.bytes(kind::UUID, self.as_bytes());
    }
}

impl CacheKey for Duration {
    fn feed(&self, writer: &mut KeyWriter) {
        writer.bytes(kind::DURATION, &self.as_nanos().to_le_bytes());
    }
}

impl<T: CacheKey> CacheKey for Option<T> {
    fn feed(&self, writer: &mut KeyWriter) {
        writer.variant(u32::from(self.is_some()));
        if let Some(value) = self {
            value.feed(writer);
        }
    }
}

impl<T: CacheKey> CacheKey for [T] {
    fn feed(&self, writer: &mut KeyWriter) {
        feed_all(self.iter(), writer);
    }
}

impl<T: CacheKey> CacheKey for Vec<T> {
    fn feed(&self, writer: &mut KeyWriter) {
        self.as_slice().feed(writer);
    }
}

impl<T: CacheKey, const N: usize> CacheKey for [T; N] {
    fn feed(&self, writer: &mut KeyWriter) {
        self.as_slice().feed(writer);
    }
}

impl<T: CacheKey> CacheKey for BTreeSet<T> {
    fn feed(&self, writer: &mut KeyWriter) {
        feed_all(self.iter(), writer);
    }
}

impl<K: CacheKey, V: CacheKey> CacheKey for BTreeMap<K, V> {
    fn feed(&self, writer: &mut KeyWriter) {
        feed_all(self.iter(), writer);
    }
}

fn feed_all<T: CacheKey>(parts: impl ExactSizeIterator<Item = T>, writer: &mut KeyWriter) {
    writer.list(parts.len());
    for part in parts {
        part.feed(writer);
    }
}

macro_rules! pointers {
    ($($pointer:ty),*) => {
        $(impl<T: CacheKey + ?Sized> CacheKey for $pointer {
            fn feed(&self, writer: &mut KeyWriter) {
                (**self).feed(writer);
            }
        })*
    };
}

pointers!(&T, &mut T, Box<T>, Rc<T>, Arc<T>);

impl<T: CacheKey + ToOwned + ?Sized> CacheKey for Cow<'_, T> {
    fn feed(&self, writer: &mut KeyWriter) {
        (**self).feed(writer);
    }
}

impl CacheKey for () {
    fn feed(&self, writer: &mut KeyWriter) {
        writer.list(0);
    }
}

macro_rules! tuples {
    ($($first:ident $($part:ident)*;)*) => {
        $(impl<$first: CacheKey, $($part: CacheKey),*> CacheKey for ($first, $($part),*) {
            fn feed(&self, writer: &mut KeyWriter) {
                #[expect(non_snake_case, reason = "each part is called as its type is")]
                let ($first, $($part),*) = self;
                $first.feed(writer);
                $($part.feed(writer);)*
            }
        })*
    };
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
    A B C D E F G H I;
    A B C D E F G H I J;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(arguments: &impl CacheKey) -> Key {
        Key::of("n", 1, Scope::Public, arguments)
    }

    /// Pairs that would be one without lengths and types.
    #[test]
    fn neighbours_do_not_run_into_each_other() {
        let keys = [
            key(&("ab", "c")),
            key(&("a", "bc")),
            key(&("abc", "")),
            key(&(vec!["a"], vec!["b"])),
            key(&(vec!["a", "b"], Vec::<&str>::new())),
            key(&(Some("a"), None::<&str>)),
            key(&(None::<&str>, Some("a"))),
            key(&1_u8),
            key(&1_u16),
            key(&1_i8),
            key(&true),
            key(&"1"),
            key(&'1'),
            key(&0.0_f64),
            key(&-0.0_f64),
            key(&0.0_f32),
            key(&()),
        ];
        for (position, one) in keys.iter().enumerate() {
            for other in &keys[position + 1..] {
                assert_ne!(one.name, other.name);
                assert_ne!(one.seal, other.seal);
            }
        }
    }

    #[test]
    fn every_part_of_a_key_is_in_it() {
        let user = Uuid::from_u128(1);
        let keys = [
            Key::of("n", 1, Scope::Public, "x"),
            Key::of("m", 1, Scope::Public, "x"),
            Key::of("n", 2, Scope::Public, "x"),
            Key::of("n", 1, Scope::Tenant("t"), "x"),
            Key::of("n", 1, Scope::Tenant("u"), "x"),
            Key::of("n", 1, Scope::User("t", user), "x"),
            Key::of("n", 1, Scope::User("t", Uuid::from_u128(2)), "x"),
            Key::of("n", 1, Scope::Public, "y"),
        ];
        for (position, one) in keys.iter().enumerate() {
            assert!(keys[position + 1..].iter().all(|other| one.name != other.name));
            assert_ne!(one.name, one.seal);
        }
        assert_eq!(Scope::of("t", Some(user)), Scope::User("t", user));
    }

    #[test]
    fn how_a_value_is_held_makes_no_difference() {
        let text = "x".to_owned();
        assert_eq!(key(&text), key(&Arc::new(&*text)));
        assert_eq!(key(&Cow::Borrowed("x")), key(&Box::new(text)));
        assert_eq!(key(&[1_u64, 2]), key(&vec![1_usize, 2]));
        assert_eq!(key(&f64::NAN), key(&f64::NAN));
    }

    type Arguments = (String, Option<i8>, Vec<String>, (bool, u8), BTreeMap<u8, String>);

    /// So few that two are often alike but for one part.
    fn arguments() -> impl Strategy<Value = Arguments> {
        let text = || "[ab]{0,2}";
        let list = prop::collection::vec(text(), 0..3);
        let map = prop::collection::btree_map(0..2_u8, text(), 0..2);
        (text(), prop::option::of(-1..1_i8), list, (any::<bool>(), 0..2_u8), map)
    }

    proptest! {
        #[test]
        fn different_arguments_have_different_keys(one in arguments(), other in arguments()) {
            prop_assert_eq!(key(&one) == key(&other), one == other);
            prop_assert_eq!(key(&one), key(&one.clone()));
        }

        /// However a list is cut in two, it is another pair.
        #[test]
        fn a_cut_elsewhere_is_another_key(list in prop::collection::vec("[ab]{0,2}", 1..6), at in any::<prop::sample::Index>()) {
            let (one, other) = (at.index(list.len()), (at.index(list.len()) + 1) % (list.len() + 1));
            prop_assert_ne!(key(&list.split_at(one)), key(&list.split_at(other)));
        }
    }
}
