//! What a function must look like to carry an attribute, and the type that it answers with.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Error, FnArg, GenericArgument, ItemFn, Path, PathArguments, ReturnType, Type, TypeImplTrait, TypePath};

use crate::options::Faults;

/// Refuses what no attribute but `profiled` can work with.
pub fn check_free_async(attribute: &str, function: &ItemFn, faults: &mut Faults) {
    check_async(attribute, function, faults);
    let signature = &function.sig;
    if let Some(receiver) = signature.receiver() {
        let fault = format!("`{attribute}` goes on a free function: take what `self` holds as an argument");
        faults.add(Error::new_spanned(receiver, fault));
    }
    if let Some(token) = &signature.unsafety {
        let fault =
            format!("`{attribute}` would call this `unsafe fn` unseen: make it safe, with the `unsafe` in a block");
        faults.add(Error::new_spanned(token, fault));
    }
    if let Some(abi) = &signature.abi {
        faults.add(Error::new_spanned(abi, format!("`{attribute}` goes on a Rust function: leave `extern` out")));
    }
}

/// Refuses a function that does not wait.
pub fn check_async(attribute: &str, function: &ItemFn, faults: &mut Faults) {
    if function.sig.asyncness.is_none() {
        let fault = format!("`{attribute}` goes on an `async fn`: write `async fn {}`", function.sig.ident);
        faults.add(Error::new_spanned(function.sig.fn_token, fault));
    }
}

/// What stands in a `Result`'s place for `Ok`, where the function answers with one (or with an alias that ends so).
pub fn ok_type(output: &ReturnType) -> Option<&Type> {
    let ReturnType::Type(_, answer) = output else { return None };
    let (name, arguments) = last_segment(answer)?;
    (name.ends_with("Result")).then(|| arguments.first().copied()).flatten()
}

/// The last segment of a type's path, and the types in its angle brackets.
pub fn last_segment(of: &Type) -> Option<(String, Vec<&Type>)> {
    let Type::Path(TypePath { path, .. }) = of else { return None };
    let segment = path.segments.last()?;
    let types = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => arguments
            .args
            .iter()
            .filter_map(|argument| if let GenericArgument::Type(inner) = argument { Some(inner) } else { None })
            .collect(),
        _ => Vec::new(),
    };
    Some((segment.ident.to_string(), types))
}

/// Whether the last segment of a type's path is `name`; looks through a reference.
pub fn is_called(of: &Type, name: &str) -> bool {
    let of = if let Type::Reference(reference) = of { &reference.elem } else { of };
    last_segment(of).is_some_and(|(last, _)| last == name)
}

/// The one type in the angle brackets of a type called one of `names`, and which.
pub fn wrapped<'t>(of: &'t Type, names: &[&str]) -> Option<(String, &'t Type)> {
    let (name, types) = last_segment(of)?;
    match types.as_slice() {
        [inner] if names.contains(&name.as_str()) => Some((name, inner)),
        _ => None,
    }
}

/// The path of a type as that of its constructor: without what stands in its angle brackets.
pub fn constructor(of: &Type) -> Option<Path> {
    let Type::Path(TypePath { path, .. }) = of else { return None };
    let mut path = path.clone();
    for segment in &mut path.segments {
        segment.arguments = PathArguments::None;
    }
    Some(path)
}

/// The type of what a function answers, for errors that point at it; the function's name where it says nothing.
pub fn answer_tokens(function: &ItemFn) -> TokenStream {
    match &function.sig.output {
        ReturnType::Type(_, answer) => answer.to_token_stream(),
        ReturnType::Default => function.sig.ident.to_token_stream(),
    }
}

/// Type parameters, `const` ones among them.
pub fn type_parameters(function: &ItemFn) -> impl Iterator<Item = &syn::Ident> {
    function.sig.generics.params.iter().filter_map(|parameter| match parameter {
        syn::GenericParam::Type(parameter) => Some(&parameter.ident),
        syn::GenericParam::Const(parameter) => Some(&parameter.ident),
        syn::GenericParam::Lifetime(_) => None,
    })
}

/// Whether `tokens` name `ident` anywhere.
pub fn names(tokens: TokenStream, ident: &syn::Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => names(group.stream(), ident),
        TokenTree::Ident(found) => found == *ident,
        _ => false,
    })
}

/// The arguments as a person wrote them; a receiver is left out.
pub fn typed(function: &ItemFn) -> impl Iterator<Item = &syn::PatType> {
    function
        .sig
        .inputs
        .iter()
        .filter_map(|input| if let FnArg::Typed(argument) = input { Some(argument) } else { None })
}

/// The first part of `of` that is an `impl Trait`.
pub fn impl_trait(of: &Type) -> Option<TypeImplTrait> {
    struct Seek(Option<TypeImplTrait>);
    impl<'ast> Visit<'ast> for Seek {
        fn visit_type_impl_trait(&mut self, found: &'ast TypeImplTrait) {
            self.0.get_or_insert_with(|| found.clone());
        }
    }
    let mut seek = Seek(None);
    seek.visit_type(of);
    seek.0
}

/// Where the function says what its error is, or at least its answer.
pub fn error_span(function: &ItemFn) -> Span {
    let ReturnType::Type(_, answer) = &function.sig.output else { return function.sig.ident.span() };
    match last_segment(answer) {
        Some((_, types)) if types.len() > 1 => types[1].span(),
        _ => answer.span(),
    }
}
