//! What the attributes make of functions, and every error that is their own: the cases of `tests/ui/fail`, which the server's
//! tests give to the compiler as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::TokenStream;
use syn::{Attribute, Error, Item, Meta};

use crate::entry::Expand;
use crate::options::Given;
use crate::{ai_optimized, async_job, cache_key, fast_endpoint, profiled};

mod expansions;

const ATTRIBUTES: &[(&str, Expand)] = &[
    ("fast_endpoint", fast_endpoint::expand),
    ("async_job", async_job::expand),
    ("ai_optimized", ai_optimized::expand),
    ("profiled", profiled::expand),
];

/// A case's errors as its head says them: the message and the text that it points at.
fn expected(case: &str) -> Vec<(String, String)> {
    let said = |word: &'static str| {
        case.lines().filter_map(move |line| line.strip_prefix("//~ ")?.strip_prefix(word)).map(str::to_owned)
    };
    said("error: ").zip(said("at: ")).collect()
}

/// The attribute's own errors about what the case puts it on.
fn own(case: &str) -> Vec<(String, String)> {
    let file = syn::parse_file(case).unwrap();
    let errors = file.items.iter().flat_map(|item| match item {
        Item::Fn(function) => applied(&function.attrs, item.clone()),
        Item::Struct(found) => applied(&found.attrs, item.clone()),
        Item::Enum(found) => derived(&found.attrs, item),
        Item::Union(found) => derived(&found.attrs, item),
        Item::Impl(found) => {
            let methods = found.items.iter().filter_map(|item| match item {
                syn::ImplItem::Fn(method) => Some(method),
                _ => None,
            });
            methods.flat_map(|method| applied(&method.attrs, Item::Verbatim(quote::quote!(#method)))).collect()
        }
        _ => Vec::new(),
    });
    errors.map(|error| (error.to_string(), error.span().source_text().unwrap_or_default())).collect()
}

/// What the first of our attributes has against the item below it.
fn applied(attributes: &[Attribute], item: Item) -> Vec<Error> {
    for attribute in attributes {
        let expand = ATTRIBUTES.iter().find(|(name, _)| attribute.path().is_ident(name));
        if let Some((name, expand)) = expand {
            let tokens = match &attribute.meta {
                Meta::List(list) => list.tokens.clone(),
                _ => TokenStream::new(),
            };
            return crate::entry::expanded(name, *expand, tokens, &bare(item)).err().into_iter().flatten().collect();
        }
    }
    derived(attributes, &item)
}

fn derived(attributes: &[Attribute], item: &Item) -> Vec<Error> {
    let is_ours = |attribute: &Attribute| {
        attribute.path().is_ident("derive") && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "CacheKey")
    };
    if !attributes.iter().any(is_ours) {
        return Vec::new();
    }
    let item = syn::parse2(quote::quote!(#item)).unwrap();
    cache_key::expand(&item).err().into_iter().flatten().collect()
}

/// The item as the compiler hands it over: without the attribute.
fn bare(mut item: Item) -> TokenStream {
    match &mut item {
        Item::Fn(function) => drop(function.attrs.remove(0)),
        Item::Struct(found) => drop(found.attrs.remove(0)),
        Item::Verbatim(tokens) => {
            let mut method: syn::ImplItemFn = syn::parse2(tokens.clone()).unwrap();
            method.attrs.remove(0);
            return quote::quote!(#method);
        }
        _ => {}
    }
    quote::quote!(#item)
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ui/fail");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn every_error_of_ours_names_the_fix_and_points_at_its_cause() {
    let mut wrong = Vec::new();
    let mut ours = 0;
    for path in cases() {
        let (name, case) =
            (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap());
        let of_the_compiler = case.lines().any(|line| line == "//~ by the compiler");
        let wanted = if of_the_compiler { Vec::new() } else { expected(&case) };
        ours += usize::from(!of_the_compiler);
        let told = own(&case);
        if told != wanted || told.is_empty() && !of_the_compiler {
            let told: Vec<String> =
                told.iter().map(|(message, at)| format!("//~ error: {message}\n//~ at: {at}\n")).collect();
            wrong.push(format!("== {name}\n{}", told.concat()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
    assert!(ours >= 60, "{ours} cases of our own");
}

#[test]
fn what_cannot_be_expanded_stays_beside_its_errors() {
    let item = TokenStream::from_str("fn f() -> u8 { 7 }").unwrap();
    let made = crate::entry::attribute("profiled", profiled::expand, TokenStream::new(), &item).to_string();
    assert!(made.starts_with(&item.to_string()) && made.contains("compile_error"), "{made}");
}

/// Whatever stands in the parentheses, the attribute answers with tokens.
#[test]
fn odd_options_never_panic() {
    let item = "async fn f(memo: &Memo, ai: &Ai, id: u64) -> Result<String, E> { body }";
    let odd = [
        "=",
        "cache_ttl =",
        "cache_ttl = {}",
        "skip()",
        "skip(1)",
        "a::b = 1",
        "\"\"",
        "\"a\" \"b\"",
        "public public",
        "#",
        "(((",
        ")",
    ];
    for options in odd.iter().filter_map(|options| TokenStream::from_str(options).ok()) {
        for (name, expand) in ATTRIBUTES {
            let item = TokenStream::from_str(item).unwrap();
            let given = Given { attribute: name, tokens: options.clone() };
            let function = syn::parse2(item.clone()).unwrap();
            if let Err(error) = expand(given, &function) {
                assert!(!error.to_string().is_empty());
            }
            assert!(!crate::entry::attribute(name, *expand, options.clone(), &item).is_empty());
        }
    }
}
