//! `#[async_job]`: a function that also runs in the background, with its arguments stored.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Attribute, Error, Ident, ItemFn, LitStr, Pat, Result, Type};

use crate::arguments::Argument;
use crate::companion;
use crate::options::{Faults, Given, Options};
use crate::{shape, span_of_time};

const ATTRIBUTE: &str = "async_job";
const ACCEPTED: &[&str] = &["priority", "retries", "backoff", "timeout", "unique_by", "queue", "kind", "version"];

/// In the words of `Priority`, with the variants that they stand for.
const PRIORITIES: &[(&str, &str)] = &[("critical", "Critical"), ("high", "High"), ("normal", "Normal"), ("low", "Low")];

/// What is borrowed, and what a task would store in its place.
const OWNED: &[(&str, &str)] = &[("str", "String"), ("Path", "PathBuf"), ("OsStr", "OsString"), ("CStr", "CString")];

/// The function's arguments by what they are for.
struct Roles<'f> {
    state: Option<&'f Argument>,
    context: Option<&'f Argument>,
    stored: Vec<(&'f Argument, Ident)>,
}

/// The function as it stands, and its job.
pub fn expand(given: Given, function: &ItemFn) -> Result<TokenStream> {
    let mut options = Options::read(given, ACCEPTED)?;
    shape::check_free_async(ATTRIBUTE, function, options.faults());
    check_generics(function, options.faults());
    let (kind, version) = (kind(&mut options, function), options.integer("version", 1, u16::MAX).unwrap_or(1));
    let policy = policy(&mut options);
    let unique_by = options.arguments("unique_by");
    let arguments = Argument::all(function);
    let roles = roles(&arguments, options.faults());
    check_unique(&unique_by, &roles, function, options.faults());
    let output = shape::ok_type(&function.sig.output).cloned();
    if output.is_none() {
        let fault =
            "a job says whether it succeeded: answer with `Result<T, JobError>`, or any error that `?` takes into one";
        options.faults().add(Error::new_spanned(shape::answer_tokens(function), fault));
    }
    options.end()?;
    let Some(output) = output else {
        return Err(Error::new_spanned(&function.sig.ident, "a job answers with a `Result`"));
    };
    let kept = kept(function);
    let (data, job) = (data(function, &roles, &unique_by), job(function, &roles, &kind, version, &policy, &output));
    // The attribute asks for `async`, whether the body waits or not.
    Ok(quote! { #[allow(clippy::unused_async)] #kept #data #job })
}

/// The function, without the attributes that go on the fields.
fn kept(function: &ItemFn) -> ItemFn {
    let mut kept = function.clone();
    for input in &mut kept.sig.inputs {
        if let syn::FnArg::Typed(argument) = input {
            argument.attrs.retain(|attribute| !is_serde(attribute));
        }
    }
    kept
}

fn is_serde(attribute: &Attribute) -> bool {
    attribute.path().is_ident("serde")
}

fn check_generics(function: &ItemFn, faults: &mut Faults) {
    if let Some(parameter) = shape::type_parameters(function).next() {
        let fault = format!("a job's arguments are read back without asking for types: write `{parameter}` out");
        faults.add(Error::new_spanned(parameter, fault));
    }
}

fn kind(options: &mut Options, function: &ItemFn) -> LitStr {
    let name = LitStr::new(&function.sig.ident.to_string(), function.sig.ident.span());
    let kind = options.text("kind", "mail.digest").unwrap_or(name);
    let text = kind.value();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if text.len() > 100 || !text.chars().all(is_plain) {
        let fault = "a kind is up to 100 letters, digits and `_-.:`, such as `kind = \"mail.digest\"`";
        options.faults().add(Error::new_spanned(&kind, fault));
    }
    kind
}

/// The `Policy`, as far as it is not the usual one.
fn policy(options: &mut Options) -> TokenStream {
    let words: Vec<&str> = PRIORITIES.iter().map(|(word, _)| *word).collect();
    let priority = options.word("priority", &words).map(|position| {
        let variant = Ident::new(PRIORITIES[position].1, Span::call_site());
        quote!(priority: ::ish::tasks::Priority::#variant,)
    });
    let queue = options.text("queue", "mail").map(|queue| quote!(queue: #queue,));
    let retries: Option<u16> = options.integer("retries", 0, 1_000);
    let attempts = retries.map(|retries| retries + 1).map(|attempts| quote!(max_attempts: #attempts,));
    let backoff = options.text("backoff", "1s..5m").and_then(|text| backoff(&text, options.faults()));
    let timeout = options.time("timeout").map(|limit| quote!(soft_limit: #limit, hard_limit: #limit,));
    quote!(::ish::tasks::Policy { #priority #queue #attempts #backoff #timeout ..::ish::tasks::Policy::DEFAULT })
}

/// `1s..5m`: from the first wait to the longest.
fn backoff(text: &LitStr, faults: &mut Faults) -> Option<TokenStream> {
    let value = text.value();
    let bounds = value.split_once("..").and_then(|(base, cap)| {
        Some((span_of_time::of_text(base)?, span_of_time::of_text(cap)?)).filter(|(base, cap)| base <= cap)
    });
    if bounds.is_none() {
        let fault = "`backoff` takes the first wait and the longest, between which it doubles: \"1s..5m\"";
        faults.add(Error::new_spanned(text, fault));
    }
    let (base, cap) = bounds?;
    let (base, cap) = (span_of_time::tokens(base), span_of_time::tokens(cap));
    Some(quote!(backoff: ::ish::tasks::Backoff { base: #base, cap: #cap },))
}

fn roles<'f>(arguments: &'f [Argument], faults: &mut Faults) -> Roles<'f> {
    let mut roles = Roles { state: None, context: None, stored: Vec::new() };
    for argument in arguments {
        if shape::is_called(&argument.ty, "JobContext") {
            roles.context = Some(argument);
            continue;
        }
        if let Type::Reference(reference) = &argument.ty {
            match owned_form(reference) {
                Some(owned) => {
                    let fault = format!("a job's arguments are stored until it runs: take `{owned}`");
                    faults.add(Error::new_spanned(&argument.ty, fault));
                }
                None if reference.mutability.is_some() => {
                    let fault =
                        "a job's state is shared by all that run: take `&`, with a lock inside where it changes";
                    faults.add(Error::new_spanned(&argument.ty, fault));
                }
                None if roles.state.is_none() && roles.stored.is_empty() => roles.state = Some(argument),
                None => {
                    let fault = "only a job's state is borrowed, as its first argument: all others are stored until it runs, so take them by value";
                    faults.add(Error::new_spanned(&argument.ty, fault));
                }
            }
            continue;
        }
        if let Some(unnamed) = shape::impl_trait(&argument.ty) {
            faults.add(Error::new_spanned(unnamed, "a job's arguments are read back from the store: name the type"));
            continue;
        }
        match &argument.pattern {
            Pat::Ident(name) if name.subpat.is_none() => roles.stored.push((argument, name.ident.clone())),
            other => faults.add(Error::new_spanned(other, "a job's arguments are stored by name: write `name: Type`")),
        }
    }
    roles
}

/// What is to be written in place of a borrowed text or list.
fn owned_form(reference: &syn::TypeReference) -> Option<String> {
    match &*reference.elem {
        Type::Slice(slice) => Some(format!("Vec<{}>", slice.elem.to_token_stream())),
        of => OWNED.iter().find(|(borrowed, _)| shape::is_called(of, borrowed)).map(|(_, owned)| (*owned).to_owned()),
    }
}

fn check_unique(unique_by: &[Ident], roles: &Roles<'_>, function: &ItemFn, faults: &mut Faults) {
    for name in unique_by.iter().filter(|name| !roles.stored.iter().any(|(_, stored)| stored == *name)) {
        let fault = format!("`{name}` is no stored argument of `{}`", function.sig.ident);
        faults.add(Error::new_spanned(name, fault));
    }
}

/// What is stored of a task, and the way to make one.
fn data(function: &ItemFn, roles: &Roles<'_>, unique_by: &[Ident]) -> TokenStream {
    let (vis, name) = (&function.vis, &function.sig.ident);
    let conditions = companion::conditions(function);
    let attributes =
        companion::attributes(function, &format!("The job that runs [`{name}`](fn@{name}): its arguments."));
    let (names, types) = stored(roles);
    let fields = roles.stored.iter().map(|(argument, name)| {
        let (attributes, ty) = (argument.attributes.iter().filter(|attribute| is_serde(attribute)), &argument.ty);
        let doc = format!("The argument `{name}`.");
        quote!(#[doc = #doc] #(#attributes)* #vis #name: #ty)
    });
    let unique = (!unique_by.is_empty()).then(|| quote!(.unique_by(&(#(&job.#unique_by,)*))));
    quote! {
        #attributes
        #[derive(::ish::__private::serde::Serialize, ::ish::__private::serde::Deserialize)]
        #[serde(crate = "::ish::__private::serde")]
        #vis struct #name { #(#fields),* }

        #(#conditions)*
        #[automatically_derived]
        #[allow(clippy::too_many_arguments, dead_code)]
        impl #name {
            /// A task that runs it with these arguments: enqueue it.
            #vis fn job(#(#names: #types),*) -> ::ish::tasks::NewTask {
                let job = Self { #(#names),* };
                ::ish::tasks::NewTask::new(&job) #unique
            }
        }
    }
}

fn stored<'f>(roles: &'f Roles<'f>) -> (Vec<&'f Ident>, Vec<&'f Type>) {
    roles.stored.iter().map(|(argument, name)| (name, &argument.ty)).unzip()
}

fn job(
    function: &ItemFn,
    roles: &Roles<'_>,
    kind: &LitStr,
    version: u16,
    policy: &TokenStream,
    output: &Type,
) -> TokenStream {
    let (name, conditions) = (&function.sig.ident, companion::conditions(function));
    let (names, _) = stored(roles);
    let [state, context] = ["state", "context"].map(|name| Ident::new(&format!("__ish_{name}"), Span::mixed_site()));
    let state_type = match roles.state.map(|state| &state.ty) {
        Some(Type::Reference(reference)) => reference.elem.to_token_stream(),
        _ => quote!(()),
    };
    let handed = Argument::all(function);
    let handed = handed.iter().map(|argument| {
        let is = |role: Option<&Argument>| role.is_some_and(|role| role.index == argument.index);
        match &argument.pattern {
            _ if is(roles.state) => quote!(&#state),
            _ if is(roles.context) && matches!(argument.ty, Type::Reference(_)) => quote!(&#context),
            _ if is(roles.context) => quote!(::core::clone::Clone::clone(&#context)),
            Pat::Ident(name) => name.ident.to_token_stream(),
            _ => TokenStream::new(),
        }
    });
    let run = quote_spanned! {shape::error_span(function)=>
        #name(#(#handed),*).await.map_err(::core::convert::From::from)
    };
    let link = roles.state.is_none().then(|| quote!(#(#conditions)* ::ish::link_job!(#name);));
    quote! {
        #(#conditions)*
        #[automatically_derived]
        #[allow(clippy::useless_conversion)]
        impl ::ish::tasks::Job for #name {
            const KIND: &'static str = #kind;
            const VERSION: u16 = #version;
            const POLICY: ::ish::tasks::Policy = #policy;
            type State = #state_type;
            type Output = #output;

            async fn run(
                self,
                #state: ::std::sync::Arc<Self::State>,
                #context: ::ish::tasks::JobContext,
            ) -> ::core::result::Result<Self::Output, ::ish::tasks::JobError> {
                let Self { #(#names),* } = self;
                #run
            }
        }
        #link
    }
}
