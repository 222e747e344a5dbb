//! A function's arguments: taken apart by its patterns, put together again to be handed on, and each one's part in a key.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Attribute, Expr, FieldPat, Ident, Index, ItemFn, Pat, PatIdent, PatType, Type, parse_quote};

use crate::shape;

/// Extractors of which the one field is what was extracted.
const EXTRACTORS: &[&str] = &["State", "Path", "Query", "Json", "Form", "Extension"];

/// One argument.
pub struct Argument {
    /// Its place.
    pub index: usize,
    /// Attributes that it carries.
    pub attributes: Vec<Attribute>,
    /// Its pattern as it was written.
    pub pattern: Pat,
    /// Its type.
    pub ty: Type,
    names: Vec<Ident>,
}

impl Argument {
    /// Every argument of `function` but a receiver.
    pub fn all(function: &ItemFn) -> Vec<Self> {
        shape::typed(function).enumerate().map(|(index, argument)| Self::of(index, argument)).collect()
    }

    fn of(index: usize, argument: &PatType) -> Self {
        struct Names(Vec<Ident>);
        impl<'ast> Visit<'ast> for Names {
            fn visit_pat_ident(&mut self, found: &'ast PatIdent) {
                self.0.push(found.ident.clone());
            }
        }
        let mut names = Names(Vec::new());
        names.visit_pat(&argument.pat);
        let (pattern, ty) = ((*argument.pat).clone(), (*argument.ty).clone());
        Self { index, attributes: argument.attrs.clone(), pattern, ty, names: names.0 }
    }

    /// Whether `name` is bound by its pattern: by that name options mean it.
    pub fn is_named(&self, name: &Ident) -> bool {
        self.names.contains(name)
    }

    /// The one name that its value is bound to, or what an extractor holds.
    pub fn name(&self) -> Option<&Ident> {
        let bound = match &self.pattern {
            Pat::TupleStruct(made) if made.elems.len() == 1 && self.extracted().is_some() => made.elems.first()?,
            pattern => pattern,
        };
        if let Pat::Ident(PatIdent { ident, subpat: None, .. }) = bound { Some(ident) } else { None }
    }

    /// What it is called in a function that takes it whole.
    pub fn plain_name(&self) -> Ident {
        self.name().cloned().unwrap_or_else(|| Ident::new(&format!("argument_{}", self.index), Span::call_site()))
    }

    /// Its pattern with the expression that makes the argument again from what the pattern binds. Where there is no such
    /// expression, a name takes the pattern's place.
    pub fn handed_on(&self) -> (Pat, Expr) {
        again(&self.pattern).unwrap_or_else(|| {
            let name = Ident::new(&format!("__ish_{}", self.index), Span::mixed_site());
            (parse_quote!(#name), parse_quote!(#name))
        })
    }

    fn extracted(&self) -> Option<&Type> {
        shape::wrapped(&self.ty, EXTRACTORS).map(|(_, inner)| inner)
    }

    /// The type of a reference to what matters of it: what an extractor holds, what a reference points to.
    pub fn borrowed_type(&self) -> TokenStream {
        if let Type::Reference(reference) = &self.ty {
            let (lifetime, inner) = (&reference.lifetime, &reference.elem);
            return quote!(& #lifetime #inner);
        }
        match self.extracted().unwrap_or(&self.ty) {
            many @ Type::ImplTrait(bounds) if bounds.bounds.len() > 1 => quote!(&(#many)),
            inner => quote!(&#inner),
        }
    }

    /// A reference to what matters of it, out of a tuple of all arguments.
    pub fn borrowed_from(&self, arguments: &Ident) -> TokenStream {
        let (index, span) = (Index::from(self.index), self.ty.span());
        if matches!(self.ty, Type::Reference(_)) {
            return quote_spanned!(span=> &*#arguments.#index);
        }
        if self.extracted().is_some() {
            return quote_spanned!(span=> &#arguments.#index.0);
        }
        quote_spanned!(span=> &#arguments.#index)
    }
}

/// The pattern without `mut`, and the expression of what it matched; `None` where it leaves something out.
fn again(pattern: &Pat) -> Option<(Pat, Expr)> {
    match pattern {
        Pat::Ident(PatIdent { by_ref: None, subpat: None, ident, .. }) => {
            Some((parse_quote!(#ident), parse_quote!(#ident)))
        }
        Pat::Paren(inner) => again(&inner.pat),
        Pat::Tuple(tuple) => {
            let (patterns, values) = all_again(tuple.elems.iter())?;
            Some((parse_quote!((#(#patterns,)*)), parse_quote!((#(#values,)*))))
        }
        Pat::TupleStruct(made) if made.qself.is_none() => {
            let (path, (patterns, values)) = (&made.path, all_again(made.elems.iter())?);
            Some((parse_quote!(#path(#(#patterns),*)), parse_quote!(#path(#(#values),*))))
        }
        Pat::Struct(made) if made.rest.is_none() && made.qself.is_none() => {
            let (patterns, values) = all_again(made.fields.iter().map(|field| &*field.pat))?;
            let path = &made.path;
            // What was written short stays short.
            let named = |field: &FieldPat, bound: TokenStream| match &field.colon_token {
                Some(colon) => [field.member.to_token_stream(), quote!(#colon), bound].into_iter().collect(),
                None => bound,
            };
            let patterns = made.fields.iter().zip(patterns).map(|(field, bound)| named(field, quote!(#bound)));
            let values = made.fields.iter().zip(values).map(|(field, bound)| named(field, quote!(#bound)));
            let (pattern, value) = (quote!(#path { #(#patterns),* }), quote!(#path { #(#values),* }));
            Some((Parser::parse2(Pat::parse_single, pattern).ok()?, syn::parse2(value).ok()?))
        }
        _ => None,
    }
}

fn all_again<'p>(patterns: impl Iterator<Item = &'p Pat>) -> Option<(Vec<Pat>, Vec<Expr>)> {
    patterns.map(again).collect::<Option<Vec<_>>>().map(|pairs| pairs.into_iter().unzip())
}

/// The arguments as the outer function declares them: its own patterns, where they can be put together again.
pub fn declared(arguments: &[Argument]) -> Vec<TokenStream> {
    let declare = |argument: &Argument| {
        let (attributes, (pattern, _), ty) = (&argument.attributes, argument.handed_on(), &argument.ty);
        quote!(#(#attributes)* #pattern: #ty)
    };
    arguments.iter().map(declare).collect()
}

/// All arguments, put together again, as a tuple.
pub fn tuple(arguments: &[Argument]) -> TokenStream {
    let values = arguments.iter().map(|argument| argument.handed_on().1);
    quote!((#(#values,)*)).into_token_stream()
}
