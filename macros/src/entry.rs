//! What every attribute has in common at its edge: it goes on a function, and where it cannot be applied the item stays,
//! beside the errors, so that nothing else seems to be missing.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Error, ItemFn, Result};

use crate::cache_key;
use crate::options::Given;

/// How an attribute rewrites a function.
pub type Expand = fn(Given, &ItemFn) -> Result<TokenStream>;

/// The item that the attribute called `name` makes of `item`.
pub fn attribute(name: &'static str, expand: Expand, options: TokenStream, item: &TokenStream) -> TokenStream {
    expanded(name, expand, options, item).unwrap_or_else(|error| beside(&error, item))
}

/// The same, with all that stands against it.
pub fn expanded(name: &'static str, expand: Expand, options: TokenStream, item: &TokenStream) -> Result<TokenStream> {
    expand(Given { attribute: name, tokens: options }, &function(name, item)?)
}

/// The implementation that the derive makes for `item`; the compiler keeps the item itself.
pub fn derive(item: TokenStream) -> TokenStream {
    syn::parse2(item).and_then(|item| cache_key::expand(&item)).unwrap_or_else(|error| error.to_compile_error())
}

fn function(name: &str, item: &TokenStream) -> Result<ItemFn> {
    syn::parse2(item.clone()).map_err(|_| {
        let fault =
            format!("`{name}` goes on an `async fn` with a body: not on a struct, an impl or a trait's declaration");
        let first = item.clone().into_iter().find(|token| token.to_string() != "#");
        Error::new(first.map_or_else(Span::call_site, |token| token.span()), fault)
    })
}

fn beside(error: &Error, item: &TokenStream) -> TokenStream {
    let errors = error.to_compile_error();
    quote!(#item #errors)
}
