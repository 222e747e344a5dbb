//! `#[fast_endpoint]`: a function whose answers are cached, by everything that it is asked with and whoever asks.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Ident, ItemFn, Result, Type, TypeParamBound};

use crate::arguments::{self, Argument};
use crate::companion;
use crate::options::{Faults, Given, Options};
use crate::shape;

const ATTRIBUTE: &str = "fast_endpoint";
const ACCEPTED: &[&str] = &["cache_ttl", "stale_if_error", "public", "skip", "state", "scope", "version"];

/// Answers that are read once, or that nobody can read back.
const UNSTORABLE: &[&str] = &["Response", "Body", "Sse", "Html", "Redirect", "StatusCode"];

/// Types that say who asks.
const CALLERS: &[&str] = &["Caller", "Principal"];

/// What a function's answer is, as it is stored.
struct Stored<'f> {
    /// The type that is stored.
    ty: &'f Type,
    /// The constructor around it: `Json`.
    wrapper: Option<syn::Path>,
    /// Whether it stands in a `Result`.
    may_fail: bool,
}

struct Wishes {
    ttl: TokenStream,
    stale_if_error: Option<TokenStream>,
    version: u32,
    public: bool,
    skipped: Vec<Ident>,
    state: Option<Ident>,
    scope: Option<Ident>,
}

/// The function's arguments by what they are for.
struct Roles<'f> {
    state: &'f Argument,
    scope: Option<&'f Argument>,
    keyed: Vec<&'f Argument>,
}

impl<'f> Roles<'f> {
    /// The arguments that tell one answer from another, in their order.
    fn parts(&self) -> Vec<&'f Argument> {
        let mut parts: Vec<&Argument> = self.scope.into_iter().chain(self.keyed.iter().copied()).collect();
        parts.sort_by_key(|argument| argument.index);
        parts
    }
}

/// The function with its answers cached.
pub fn expand(given: Given, function: &ItemFn) -> Result<TokenStream> {
    let mut options = Options::read(given, ACCEPTED)?;
    shape::check_free_async(ATTRIBUTE, function, options.faults());
    let wishes = wishes(&mut options, function);
    let stored = stored(function, options.faults());
    let arguments = Argument::all(function);
    let roles = wishes.as_ref().and_then(|wishes| roles(&arguments, wishes, function, options.faults()));
    options.end()?;
    let (Some(wishes), Some(stored), Some(roles)) = (wishes, stored, roles) else {
        return Err(Error::new_spanned(&function.sig.ident, "`fast_endpoint` cannot be applied here"));
    };
    let (outer, companion) = (outer(function, &arguments, &roles, &stored), companion(function, &roles, &wishes));
    Ok(quote! { #outer #companion })
}

fn wishes(options: &mut Options, function: &ItemFn) -> Option<Wishes> {
    let is_missing = !options.has("cache_ttl");
    let ttl = options.time("cache_ttl");
    if is_missing {
        let fault =
            "how long may an answer be served? write `#[fast_endpoint(cache_ttl = 300)]`, in seconds, or `\"5m\"`";
        options.faults().add(Error::new_spanned(&function.sig.ident, fault));
    }
    let stale_if_error = options.time("stale_if_error");
    let version = options.integer("version", 1, u32::MAX).unwrap_or(1);
    let public = options.flag("public");
    let skipped = options.arguments("skip");
    let (state, scope) = (options.argument("state"), options.argument("scope"));
    if let Some(scope) = scope.as_ref().filter(|_| public) {
        let fault = "an answer is either `public` or has a scope: leave one of them out";
        options.faults().add(Error::new_spanned(scope, fault));
    }
    Some(Wishes { ttl: ttl?, stale_if_error, version, public, skipped, state, scope })
}

/// What of the function's answer is stored.
fn stored<'f>(function: &'f ItemFn, faults: &mut Faults) -> Option<Stored<'f>> {
    let answer = shape::answer_tokens(function);
    let mut fault = |at: TokenStream, text: String| {
        faults.add(Error::new_spanned(at, text));
        None
    };
    let (ty, may_fail) = match (&function.sig.output, shape::ok_type(&function.sig.output)) {
        (_, Some(ty)) => (ty, true),
        (syn::ReturnType::Type(_, ty), None) if shape::wrapped(ty, &["Json"]).is_some() => (&**ty, false),
        _ => {
            let text = "only `Ok` is cached: answer with `Result<T, E>`, `Result<Json<T>, E>` or `Json<T>`";
            return fault(answer, text.to_owned());
        }
    };
    if let Some(unnamed) = shape::impl_trait(ty) {
        faults.add(Error::new_spanned(
            unnamed,
            "an `impl Trait` cannot be stored: name the type, or answer with `Json<T>`",
        ));
        return None;
    }
    let name = shape::last_segment(ty).map(|(name, _)| name).unwrap_or_default();
    if UNSTORABLE.contains(&name.as_str()) {
        let text = format!("a `{name}` cannot be stored: answer with `Result<Json<T>, E>`, of which `T` is stored");
        return fault(ty.to_token_stream(), text);
    }
    if matches!(ty, Type::Reference(_)) {
        return fault(ty.to_token_stream(), "a reference cannot be stored: answer with what owns its parts".to_owned());
    }
    match shape::wrapped(ty, &["Json"]) {
        Some((_, inner)) => Some(Stored { ty: inner, wrapper: shape::constructor(ty), may_fail }),
        None => Some(Stored { ty, wrapper: None, may_fail }),
    }
}

fn roles<'f>(arguments: &'f [Argument], wishes: &Wishes, function: &ItemFn, faults: &mut Faults) -> Option<Roles<'f>> {
    let named = wishes.skipped.iter().chain(&wishes.state).chain(&wishes.scope);
    for name in named.filter(|name| !arguments.iter().any(|argument| argument.is_named(name))) {
        faults.add(Error::new_spanned(name, format!("`{name}` is no argument of `{}`", function.sig.ident)));
    }
    let state = state(arguments, wishes, function);
    if state.is_none() {
        let fault = "no state to find the cache in: take `State(app): State<App>`, `memo: &Memo` or `app: &impl HasMemo`, or name the argument by `state = app`";
        faults.add(Error::new_spanned(&function.sig.ident, fault));
    }
    let is_skipped = |argument: &Argument| wishes.skipped.iter().any(|name| argument.is_named(name));
    let scope = scope(arguments, wishes).filter(|argument| !is_skipped(argument));
    match scope {
        None if !wishes.public && wishes.scope.is_none() => {
            let fault = "whose answer is it? take `caller: Caller`, name an argument that is `Scoped` by `scope = argument`, or write `public` if everybody may have it";
            faults.add(Error::new_spanned(&function.sig.ident, fault));
        }
        Some(caller) if wishes.public && wishes.scope.is_none() => {
            let name = caller.plain_name();
            let fault = format!(
                "a `public` answer is everybody's, whoever asks: leave `public` out, or say by `skip({name})` that the answer does not depend on `{name}`"
            );
            faults.add(Error::new_spanned(&caller.ty, fault));
        }
        _ => {}
    }
    let state = state?;
    check_generics(function, state, faults);
    let is_keyed = |argument: &&Argument| {
        argument.index != state.index
            && scope.is_none_or(|scope| scope.index != argument.index)
            && !is_skipped(argument)
    };
    let keyed: Vec<&Argument> = arguments.iter().filter(is_keyed).collect();
    for argument in &keyed {
        if let Type::Reference(reference) = &argument.ty
            && let Some(token) = &reference.mutability
        {
            let fault =
                "a cached answer changes nothing: take `&` instead of `&mut`, or leave the argument out by `skip(..)`";
            faults.add(Error::new(token.span(), fault));
        }
    }
    Some(Roles { state, scope, keyed })
}

fn state<'f>(arguments: &'f [Argument], wishes: &Wishes, function: &ItemFn) -> Option<&'f Argument> {
    if let Some(name) = &wishes.state {
        return arguments.iter().find(|argument| argument.is_named(name));
    }
    let is_state = |argument: &&Argument| {
        let of = if let Type::Reference(reference) = &argument.ty { &*reference.elem } else { &argument.ty };
        shape::is_called(of, "State") || shape::is_called(of, "Memo") || has_memo(of, function)
    };
    arguments.iter().find(is_state)
}

/// Whether a type says of itself that it has a memo: `impl HasMemo`, or a parameter with that bound.
fn has_memo(of: &Type, function: &ItemFn) -> bool {
    let is_has_memo = |bound: &TypeParamBound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last().is_some_and(|segment| segment.ident == "HasMemo"),
        _ => false,
    };
    match of {
        Type::ImplTrait(of) => of.bounds.iter().any(is_has_memo),
        Type::Paren(of) => has_memo(&of.elem, function),
        Type::Path(_) => {
            let mut parameters = function.sig.generics.type_params();
            parameters.any(|parameter| {
                shape::is_called(of, &parameter.ident.to_string()) && parameter.bounds.iter().any(is_has_memo)
            })
        }
        _ => false,
    }
}

fn scope<'f>(arguments: &'f [Argument], wishes: &Wishes) -> Option<&'f Argument> {
    let is_scope = |argument: &&Argument| match &wishes.scope {
        Some(name) => argument.is_named(name),
        None => {
            let of = shape::wrapped(&argument.ty, &["Extension"]).map_or(&argument.ty, |(_, inner)| inner);
            CALLERS.iter().any(|name| shape::is_called(of, name))
        }
    };
    arguments.iter().find(is_scope)
}

/// Type parameters are the state's alone: of two calls that differ in another one, the keys would be the same.
fn check_generics(function: &ItemFn, state: &Argument, faults: &mut Faults) {
    for parameter in shape::type_parameters(function) {
        let others = shape::typed(function).enumerate().filter(|(index, _)| *index != state.index);
        let elsewhere = others.map(|(_, argument)| argument.ty.to_token_stream());
        let elsewhere =
            elsewhere.chain([function.sig.output.to_token_stream()]).any(|tokens| shape::names(tokens, parameter));
        if elsewhere || !shape::names(state.ty.to_token_stream(), parameter) {
            let fault = format!(
                "`{parameter}` would not be in the key: only the state may be generic; write a function for each type and put `{ATTRIBUTE}` on these"
            );
            faults.add(Error::new_spanned(parameter, fault));
        }
    }
}

fn outer(function: &ItemFn, arguments: &[Argument], roles: &Roles<'_>, stored: &Stored<'_>) -> TokenStream {
    let (vis, sig, attributes) = (&function.vis, &function.sig, companion::outer_attributes(function));
    let (name, generics, output) = (&sig.ident, &sig.generics, &sig.output);
    let (types, where_clause) = (&generics.params, &generics.where_clause);
    let types = (!types.is_empty()).then(|| quote!(<#types>));
    let declared = arguments::declared(arguments);
    let tuple = arguments::tuple(arguments);
    let [all, memo, key] =
        ["arguments", "memo", "key"].map(|name| Ident::new(&format!("__ish_{name}"), Span::mixed_site()));
    let state = roles.state.borrowed_from(&all);
    let found = quote_spanned!(roles.state.ty.span()=> ::ish::memo::HasMemo::memo(#state));
    let parts = roles.parts().into_iter().map(|argument| argument.borrowed_from(&all));
    let places = (0..arguments.len()).map(syn::Index::from);
    let call = quote!(#name::uncached(#(#all.#places),*));
    let answer = answered(&call, stored, name, &memo, &key);
    quote! {
        #(#attributes)*
        #vis async fn #name #types (#(#declared),*) #output #where_clause {
            let #all = #tuple;
            let #memo = ::core::clone::Clone::clone(#found);
            let #key = #name::key(#(#parts),*);
            #answer
        }
    }
}

/// The answer, unwrapped to be stored and wrapped again.
fn answered(call: &TokenStream, stored: &Stored<'_>, name: &Ident, memo: &Ident, key: &Ident) -> TokenStream {
    let op = match (&stored.wrapper, stored.may_fail) {
        (None, _) => call.clone(),
        (Some(_), true) => quote!(async move { #call.await.map(|answer| answer.0) }),
        (Some(_), false) => {
            quote!(async move { ::core::result::Result::<_, ::core::convert::Infallible>::Ok(#call.await.0) })
        }
    };
    // What is wrong with the type is said where the type is.
    let answer = quote_spanned!(stored.ty.span()=> #name::META.answer(&#memo, &#key, #op).await);
    match (&stored.wrapper, stored.may_fail) {
        (None, _) => answer,
        (Some(wrapper), true) => quote!(#answer.map(#wrapper)),
        (Some(wrapper), false) => quote! {
            match #answer {
                ::core::result::Result::Ok(answer) => #wrapper(answer),
                ::core::result::Result::Err(never) => match never {},
            }
        },
    }
}

fn companion(function: &ItemFn, roles: &Roles<'_>, wishes: &Wishes) -> TokenStream {
    let (vis, name, sig, body) = (&function.vis, &function.sig.ident, &function.sig, &function.block);
    let (conditions, lints) = (companion::conditions(function), companion::lints(function));
    let attributes = companion::attributes(function, &format!("What belongs to [`{name}`](fn@{name}) besides itself."));
    let uncached = {
        let mut uncached = sig.clone();
        uncached.ident = Ident::new("uncached", name.span());
        // The attribute asked for them, so that a body that needs neither is not told of them.
        let asked_for = roles.scope.into_iter().chain([roles.state]).filter_map(Argument::name);
        let statements = &body.stmts;
        quote!(#uncached { #(let _ = &#asked_for;)* #(#statements)* })
    };
    let meta = meta(name, wishes);
    let lifetimes: Vec<_> = sig.generics.lifetimes().collect();
    let lifetimes = (!lifetimes.is_empty()).then(|| quote!(<#(#lifetimes),*>));
    let parts = roles.parts();
    let names: Vec<Ident> = parts.iter().map(|argument| argument.plain_name()).collect();
    let types: Vec<TokenStream> = parts.iter().map(|argument| argument.borrowed_type()).collect();
    let keyed = roles.keyed.iter().map(|argument| {
        let name = argument.plain_name();
        quote_spanned!(argument.ty.span()=> ::ish::endpoint::part(#name))
    });
    let scope = match roles.scope {
        Some(argument) => {
            let name = argument.plain_name();
            quote_spanned!(argument.ty.span()=> ::ish::endpoint::Scoped::scope(#name))
        }
        None => quote!(::ish::memo::Scope::Public),
    };
    quote! {
        #attributes
        #vis struct #name {}

        #(#conditions)*
        #[automatically_derived]
        #[allow(clippy::too_many_arguments, clippy::trivially_copy_pass_by_ref, clippy::ptr_arg, clippy::ref_option, clippy::needless_lifetimes, clippy::extra_unused_lifetimes, clippy::unused_async, dead_code)]
        impl #name {
            /// How its answers are cached.
            #vis const META: ::ish::endpoint::Endpoint = #meta;

            /// The function without the cache.
            #(#lints)*
            #vis #uncached

            /// Under which the answer to these arguments is kept.
            #vis fn key #lifetimes (#(#names: #types),*) -> ::ish::memo::Key {
                Self::META.key(#scope, &(#(#keyed,)*))
            }

            /// Forgets the answer to these arguments, on every instance.
            ///
            /// # Errors
            /// When others could not be told; here it is forgotten in any case.
            #vis async fn invalidate #lifetimes (
                __ish_state: &impl ::ish::memo::HasMemo,
                #(#names: #types),*
            ) -> ::core::result::Result<(), ::ish::db::DbError> {
                let key = Self::key(#(#names),*);
                ::ish::memo::HasMemo::memo(__ish_state).delete(&key).await
            }
        }
    }
}

fn meta(name: &Ident, wishes: &Wishes) -> TokenStream {
    let Wishes { ttl, stale_if_error, version, .. } = wishes;
    let name = name.to_string();
    let stale = stale_if_error.as_ref().map(|time| quote!(.stale_if_error(#time)));
    let version = (*version > 1).then(|| quote!(.version(#version)));
    quote!(::ish::endpoint::Endpoint::new(::core::concat!(::core::module_path!(), "::", #name), #ttl) #stale #version)
}
