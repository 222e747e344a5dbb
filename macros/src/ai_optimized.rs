//! `#[ai_optimized]`: a function whose body makes a prompt, and whose answer is the model's.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Ident, ItemFn, LitStr, Result, Type};

use crate::arguments::Argument;
use crate::options::{Faults, Given, Options};
use crate::shape;

const ATTRIBUTE: &str = "ai_optimized";
const ACCEPTED: &[&str] =
    &["provider", "model", "cache_ttl", "semantic", "threshold", "timeout", "temperature", "max_tokens"];

/// What becomes of the model's text.
struct Reply<'f> {
    /// The type that it is read as; `None`: it stays text.
    read_as: Option<&'f Type>,
    /// Whether the caller is told where it comes from.
    reported: bool,
}

/// The function, asking.
pub fn expand(given: Given, function: &ItemFn) -> Result<TokenStream> {
    let mut options = Options::read(given, ACCEPTED)?;
    shape::check_free_async(ATTRIBUTE, function, options.faults());
    let target = target(&mut options, function);
    let wishes = wishes(&mut options);
    let reply = reply(function, options.faults());
    let ai = handle(function);
    if ai.is_none() {
        let fault = "nobody to ask: take `ai: &Ai` as an argument";
        options.faults().add(Error::new_spanned(&function.sig.ident, fault));
    }
    options.end()?;
    let (Some((provider, model)), Some(reply), Some(ai)) = (target, reply, ai) else {
        return Err(Error::new_spanned(&function.sig.ident, "`ai_optimized` cannot be applied here"));
    };
    Ok(asking(function, &quote!(#provider, #model), &wishes, &reply, &ai))
}

fn target(options: &mut Options, function: &ItemFn) -> Option<(LitStr, LitStr)> {
    for (name, example) in [("provider", "openai"), ("model", "gpt-4")] {
        if !options.has(name) {
            let fault = format!("whom is it to ask? write `{name} = {example:?}`");
            options.faults().add(Error::new_spanned(&function.sig.ident, fault));
        }
    }
    let (provider, model) = (options.text("provider", "openai"), options.text("model", "gpt-4"));
    if let Some(provider) = provider.as_ref().filter(|provider| provider.value().contains('/')) {
        let fault =
            "a provider is named as in the configuration, without a slash: `provider = \"openai\", model = \"gpt-4\"`";
        options.faults().add(Error::new_spanned(provider, fault));
    }
    Some((provider?, model?))
}

fn wishes(options: &mut Options) -> TokenStream {
    let ttl = options.time("cache_ttl").map(|time| quote!(.ttl(#time)));
    let semantic = options.truth("semantic").map(|semantic| if semantic { quote!() } else { quote!(.exact()) });
    let threshold = options.number("threshold", 0.0, 1.0).map(|threshold| quote!(.threshold(#threshold)));
    let timeout = options.time("timeout").map(|time| quote!(.timeout(#time)));
    let temperature = options.number("temperature", 0.0, 2.0).map(|number| quote!(.temperature(#number)));
    let most = options.integer("max_tokens", 1, u32::MAX).map(|number| quote!(.max_tokens(#number)));
    quote!(#ttl #semantic #threshold #timeout #temperature #most)
}

fn reply<'f>(function: &'f ItemFn, faults: &mut Faults) -> Option<Reply<'f>> {
    let Some(ty) = shape::ok_type(&function.sig.output) else {
        let fault = "a model may fail: answer with `Result<String, AiError>`, or `Result<T, AiError>` for a `T` that is read from JSON";
        faults.add(Error::new_spanned(shape::answer_tokens(function), fault));
        return None;
    };
    let (ty, reported) = shape::wrapped(ty, &["AiReply"]).map_or((ty, false), |(_, inner)| (inner, true));
    if let Some(unnamed) = shape::impl_trait(ty) {
        faults
            .add(Error::new_spanned(unnamed, "the model's answer is read as a type: name it, or answer with `String`"));
    }
    if matches!(ty, Type::Reference(_)) {
        faults.add(Error::new_spanned(ty, "the model's answer is owned by the caller: answer with `String`"));
    }
    let read_as = (!shape::is_called(ty, "String")).then_some(ty);
    Some(Reply { read_as, reported })
}

/// What the function calls its `Ai`.
fn handle(function: &ItemFn) -> Option<Ident> {
    let arguments = Argument::all(function);
    let is_handle = |argument: &&Argument| {
        let of = shape::wrapped(&argument.ty, &["State", "Extension"]).map_or(&argument.ty, |(_, inner)| inner);
        shape::is_called(of, "Ai")
    };
    arguments.iter().find(is_handle).and_then(|argument| argument.name().cloned())
}

fn asking(function: &ItemFn, target: &TokenStream, wishes: &TokenStream, reply: &Reply<'_>, ai: &Ident) -> TokenStream {
    let (attributes, vis, sig, body) = (&function.attrs, &function.vis, &function.sig, &function.block);
    let [prompt, question, found] =
        ["prompt", "question", "reply"].map(|name| Ident::new(&format!("__ish_{name}"), Span::mixed_site()));
    let error = shape::error_span(function);
    let asked = match reply.read_as {
        Some(ty) => quote_spanned!(ty.span()=> ::ish::ai::Ai::ask_json::<#ty>(&#ai, #question).await),
        None => quote_spanned!(error=> ::ish::ai::Ai::ask(&#ai, #question).await),
    };
    // Not `?`, whose errors cannot point at a type.
    let failed = quote_spanned!(error=> ::core::convert::From::from(error));
    let answer = if reply.reported { quote!(#found) } else { quote!(#found.value) };
    let made = quote_spanned!(body.span()=> ::ish::ai::IntoPrompt::into_prompt(#body));
    quote! {
        #(#attributes)*
        #vis #sig {
            let #prompt = #made;
            let #question = ::ish::ai::Question::new(#target, #prompt) #wishes;
            let #found = match #asked {
                ::core::result::Result::Ok(reply) => reply,
                ::core::result::Result::Err(error) => return ::core::result::Result::Err(#failed),
            };
            ::core::result::Result::Ok(#answer)
        }
    }
}
