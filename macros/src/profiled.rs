//! `#[profiled]`: a function whose time is told by component and operation.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Error, ItemFn, LitStr, Result, ReturnType};

use crate::options::{Given, Options};
use crate::shape;

const ATTRIBUTE: &str = "profiled";
const ACCEPTED: &[&str] = &["component", "operation"];

/// The function, timed.
pub fn expand(mut given: Given, function: &ItemFn) -> Result<TokenStream> {
    let texts = Options::leading_texts(&mut given);
    let mut options = Options::read(given, ACCEPTED)?;
    shape::check_async(ATTRIBUTE, function, options.faults());
    let mut texts = texts.into_iter();
    let [component, operation] = [("component", "search"), ("operation", "rank")].map(|(name, example)| {
        let leading = texts.next();
        if let Some(text) = leading.as_ref().filter(|_| options.has(name)) {
            options.faults().add(Error::new_spanned(text, format!("`{name}` is given twice: leave one out")));
        }
        options.text(name, example).or(leading)
    });
    if let Some(more) = texts.next() {
        let fault = "`profiled` takes a component and an operation: `#[profiled(\"search\", \"rank\")]`";
        options.faults().add(Error::new_spanned(more, fault));
    }
    if component.is_none() && options.faults().is_empty() {
        let fault =
            "which part of the program is it? write `#[profiled(\"search\", \"rank\")]`: a component and an operation";
        options.faults().add(Error::new_spanned(&function.sig.ident, fault));
    }
    for label in component.iter().chain(&operation).filter(|label| !is_label(&label.value())) {
        let fault = "components and operations are labels of a metric: up to 64 letters, digits and `_-.:`";
        options.faults().add(Error::new_spanned(label, fault));
    }
    options.end()?;
    let operation = operation.unwrap_or_else(|| {
        let name = &function.sig.ident;
        LitStr::new(&name.to_string(), name.span())
    });
    Ok(timed(function, &quote!(#component, #operation)))
}

fn is_label(label: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    label.len() <= 64 && label.chars().all(is_plain)
}

fn timed(function: &ItemFn, labels: &TokenStream) -> TokenStream {
    let (attributes, vis, sig, body) = (&function.attrs, &function.vis, &function.sig, &function.block);
    // What the block's `?` and `return` are to give cannot be seen from the block alone.
    let typed = typed(&sig.output).map(|answer| {
        quote! {
            #[allow(unreachable_code, clippy::diverging_sub_expression, clippy::empty_loop, clippy::let_unit_value)]
            if false {
                let answer: #answer = loop {};
                return answer;
            }
        }
    });
    quote! {
        #(#attributes)*
        #vis #sig {
            ::ish::profile::profile(#labels, async move { #typed #body }).await
        }
    }
}

/// The type of the answer, where it can be written inside the function.
fn typed(output: &ReturnType) -> Option<TokenStream> {
    match output {
        ReturnType::Default => Some(quote!(())),
        ReturnType::Type(_, answer) if shape::impl_trait(answer).is_some() => None,
        ReturnType::Type(_, answer) => Some(answer.to_token_stream()),
    }
}
