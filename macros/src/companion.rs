//! The type beside a function, of the function's own name: a function and a type do not stand in each other's way, whoever
//! imports the one imports both, and what belongs to the function is found under its name (`product::uncached`).

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, ItemFn};

/// Attributes of `function` that say whether it is there at all: those of its companion, too.
pub fn conditions(function: &ItemFn) -> Vec<&Attribute> {
    function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
}

/// Attributes of `function` about lints, for where its body goes.
pub fn lints(function: &ItemFn) -> Vec<&Attribute> {
    let of_lints = ["allow", "warn", "deny", "expect", "forbid"];
    let is_lint = |attribute: &&Attribute| of_lints.iter().any(|name| attribute.path().is_ident(name));
    function.attrs.iter().filter(is_lint).collect()
}

/// The same attributes for where the body was: what was expected of it does not happen there any more.
pub fn outer_attributes(function: &ItemFn) -> Vec<TokenStream> {
    let outer = |attribute: &Attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("expect") => {
            let lints = lints_of(list);
            quote!(#[allow(#lints)])
        }
        _ => quote!(#attribute),
    };
    function.attrs.iter().map(outer).collect()
}

/// What an `expect` names, without its reason.
fn lints_of(list: &syn::MetaList) -> TokenStream {
    let names = list.parse_args_with(syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated);
    let names = names.into_iter().flatten().filter(|meta| !meta.path().is_ident("reason"));
    let names: Vec<syn::Meta> = names.collect();
    quote!(#(#names),*)
}

/// The companion's own attributes.
pub fn attributes(function: &ItemFn, doc: &str) -> TokenStream {
    let conditions = conditions(function);
    quote! {
        #(#conditions)*
        #[doc = #doc]
        #[allow(non_camel_case_types, clippy::empty_structs_with_brackets)]
    }
}
