//! `#[derive(CacheKey)]`: every field is part of the key, in order; of an enum, which variant it is comes first.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, Result, parse_quote};

/// The implementation.
pub fn expand(item: &DeriveInput) -> Result<TokenStream> {
    let body = match &item.data {
        Data::Struct(data) => {
            let (pattern, feeds) = fields(&data.fields);
            quote!(let Self #pattern = self; #feeds)
        }
        Data::Enum(data) => {
            let arms = data.variants.iter().zip(0_u32..).map(|(variant, number)| {
                let (name, (pattern, feeds)) = (&variant.ident, fields(&variant.fields));
                quote!(Self::#name #pattern => { writer.variant(#number); #feeds })
            });
            quote!(match self { #(#arms)* })
        }
        Data::Union(data) => {
            let fault = "which field of a union holds is not known: implement `CacheKey` by hand";
            return Err(Error::new_spanned(data.union_token, fault));
        }
    };
    if matches!(&item.data, Data::Enum(data) if data.variants.is_empty()) {
        return Err(Error::new_spanned(&item.ident, "an enum without variants has no value to make a key of"));
    }
    let mut generics = item.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::ish::memo::CacheKey));
    }
    let (name, (types, arguments, bounds)) = (&item.ident, generics.split_for_impl());
    Ok(quote! {
        #[automatically_derived]
        impl #types ::ish::memo::CacheKey for #name #arguments #bounds {
            fn feed(&self, writer: &mut ::ish::memo::KeyWriter) {
                #body
            }
        }
    })
}

/// The pattern that binds every field, and what feeds them.
fn fields(fields: &Fields) -> (TokenStream, TokenStream) {
    // Errors about a field point at its type.
    let name = |(at, field): (usize, &Field)| {
        format_ident!("field_{at}", span = Span::mixed_site().located_at(field.ty.span()))
    };
    let names: Vec<Ident> = fields.iter().enumerate().map(name).collect();
    let feed =
        |(field, name): (&Field, &Ident)| quote_spanned!(field.ty.span()=> ::ish::memo::CacheKey::feed(#name, writer););
    let feeds = fields.iter().zip(&names).map(feed).collect();
    let pattern = match fields {
        Fields::Named(named) => {
            let members = named.named.iter().map(|field| field.ident.to_token_stream());
            quote!({ #(#members: #names),* })
        }
        Fields::Unnamed(_) => quote!((#(#names),*)),
        Fields::Unit => TokenStream::new(),
    };
    (pattern, feeds)
}
