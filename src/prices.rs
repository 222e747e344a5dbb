//! What an answer costs: US dollars per million tokens, by `provider/model` or by model alone. A table that an operator
//! keeps; none is built in, since figures age and an old one is worse than none. What has no price costs *unknown*, never
//! nothing.

use std::collections::HashMap;

use crate::config::{PriceConfig, RouteConfig};
use crate::message::Usage;

const MILLION: f64 = 1_000_000.0;

/// The table.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    by_name: HashMap<String, PriceConfig>,
}

impl Prices {
    /// Of what the configuration says; a name's last price holds.
    pub fn new(prices: impl IntoIterator<Item = PriceConfig>) -> Self {
        Self { by_name: prices.into_iter().map(|price| (price.model.clone(), price)).collect() }
    }

    /// What `usage` costs in US dollars at this provider under its own name for the model; `None` where no price is known.
    /// Tokens read from the provider's prompt cache cost `cached_input`, those written to it `cache_write`, and as much as
    /// others where that is not set.
    pub fn cost_usd(&self, provider: &str, model: &str, usage: Usage) -> Option<f64> {
        if self.by_name.is_empty() {
            return None;
        }
        let price = self.by_name.get(&format!("{provider}/{model}")).or_else(|| self.by_name.get(model))?;
        Some(cost_usd(price, usage))
    }

    /// Of these routes and of the models that providers offer (a provider and its name for the model), the public names that
    /// have no price. Keys with a budget cannot use them.
    pub fn missing(&self, routes: &[RouteConfig], offered: &[(String, String)]) -> Vec<String> {
        let is_known = |public: &str, provider: &str, model: &str| {
            let nothing = Usage::default();
            self.cost_usd(provider, model, nothing).or_else(|| self.public_cost_usd(public, nothing)).is_some()
        };
        let routes = routes.iter().filter(|route| {
            let mut targets = route.targets.iter();
            !targets.all(|target| is_known(&route.name, &target.provider, &target.model))
        });
        let offered = offered.iter().filter(|(provider, model)| !is_known(model, provider, model));
        let offered = offered.map(|(provider, model)| format!("{provider}/{model}"));
        routes.map(|route| route.name.clone()).chain(offered).collect()
    }

    /// What a public model name's tokens cost, where the name itself has a price.
    pub fn public_cost_usd(&self, model: &str, usage: Usage) -> Option<f64> {
        self.by_name.get(model).map(|price| cost_usd(price, usage))
    }
}

fn cost_usd(price: &PriceConfig, usage: Usage) -> f64 {
    let cached = usage.cached_tokens.min(usage.input_tokens);
    let written = usage.cache_write_tokens.min(usage.input_tokens - cached);
    let fresh = usage.input_tokens - cached - written;
    let micro_usd = fresh as f64 * price.input
        + cached as f64 * price.cached_input.unwrap_or(price.input)
        + written as f64 * price.cache_write.unwrap_or(price.input)
        + usage.output_tokens as f64 * price.output;
    micro_usd / MILLION
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{Strategy, TargetConfig};

    fn price(model: &str, input: f64, cached_input: Option<f64>) -> PriceConfig {
        PriceConfig { model: model.to_owned(), input, output: 10.0, cached_input, cache_write: None }
    }

    fn usage(input_tokens: u64, output_tokens: u64, cached_tokens: u64) -> Usage {
        Usage { input_tokens, output_tokens, cached_tokens, ..Usage::default() }
    }

    #[test]
    fn a_price_of_the_provider_wins_over_one_of_the_model() {
        let prices = Prices::new([price("m", 1.0, None), price("cheap/m", 0.5, None)]);
        assert_eq!(prices.cost_usd("dear", "m", usage(1_000_000, 0, 0)), Some(1.0));
        assert_eq!(prices.cost_usd("cheap", "m", usage(1_000_000, 100_000, 0)), Some(1.5));
        assert_eq!(prices.public_cost_usd("cheap/m", usage(1_000_000, 0, 0)), Some(0.5));
    }

    #[test]
    fn cached_tokens_have_a_price_of_their_own() {
        let prices = Prices::new([price("m", 1.0, Some(0.1)), price("n", 1.0, None)]);
        assert_eq!(prices.cost_usd("p", "m", usage(1_000_000, 0, 500_000)), Some(0.55));
        assert_eq!(prices.cost_usd("p", "n", usage(1_000_000, 0, 500_000)), Some(1.0));
    }

    #[test]
    fn what_is_written_to_a_cache_has_a_price_of_its_own() {
        let prices = Prices::new([
            PriceConfig { cache_write: Some(1.25), ..price("m", 1.0, Some(0.1)) },
            price("n", 1.0, Some(0.1)),
        ]);
        let counted = Usage { cache_write_tokens: 400_000, ..usage(1_000_000, 0, 500_000) };
        assert_eq!(prices.cost_usd("p", "m", counted), Some(0.65));
        assert_eq!(prices.cost_usd("p", "n", counted), Some(0.55));
    }

    proptest! {
        /// Whatever a provider counts, each token is paid once, at one of the prices.
        #[test]
        fn a_cost_lies_between_the_cheapest_and_the_dearest(
            (input_tokens, output_tokens) in (0_u64..1_000_000, 0_u64..1_000_000),
            (cached_tokens, cache_write_tokens) in (0_u64..2_000_000, 0_u64..2_000_000),
            (input, cached_input, cache_write) in
                (0.0..100.0_f64, proptest::option::of(0.0..100.0_f64), proptest::option::of(0.0..100.0_f64)),
        ) {
            let prices = Prices::new([PriceConfig { cache_write, ..price("m", input, cached_input) }]);
            let counted = Usage { input_tokens, output_tokens, cached_tokens, cache_write_tokens, ..Usage::default() };
            let cost = prices.cost_usd("p", "m", counted).unwrap() - output_tokens as f64 * 10.0 / MILLION;
            let each = [Some(input), cached_input, cache_write].map(|price| price.unwrap_or(input) / MILLION);
            let [least, most] = [f64::min, f64::max].map(|of| each.into_iter().reduce(of).unwrap() * input_tokens as f64);
            prop_assert!(least - 1e-9 <= cost && cost <= most + 1e-9, "{least} <= {cost} <= {most}");
        }
    }

    #[test]
    fn what_is_offered_without_a_price_is_named() {
        let target = |provider: &str| TargetConfig {
            provider: provider.to_owned(),
            model: "m".to_owned(),
            weight: NonZeroU32::MIN,
            max_in_flight: None,
            requests_per_minute: None,
            tokens_per_minute: None,
        };
        let route = |name: &str, providers: &[&str]| RouteConfig {
            name: name.to_owned(),
            strategy: Strategy::Ordered,
            targets: providers.iter().map(|provider| target(provider)).collect(),
        };
        let routes = [route("both", &["dear", "cheap"]), route("named", &["cheap"])];
        let offered = [("dear", "m"), ("dear", "n"), ("cheap", "m")];
        let offered = offered.map(|(provider, model)| (provider.to_owned(), model.to_owned()));
        let missing = |prices: &[&str]| {
            Prices::new(prices.iter().map(|model| price(model, 1.0, None))).missing(&routes, &offered)
        };
        assert_eq!(missing(&[]), ["both", "named", "dear/m", "dear/n", "cheap/m"]);
        assert_eq!(missing(&["dear/m", "named"]), ["both", "dear/n", "cheap/m"]);
        assert!(missing(&["m", "n"]).is_empty());
    }

    #[test]
    fn an_unknown_price_is_unknown_and_free_is_free() {
        let prices = Prices::new([PriceConfig { output: 0.0, ..price("free", 0.0, None) }]);
        assert_eq!(prices.cost_usd("p", "m", usage(1, 1, 0)), None);
        assert_eq!(prices.cost_usd("p", "free", usage(1, 1, 0)), Some(0.0));
        assert_eq!(Prices::default().cost_usd("p", "m", Usage::default()), None);
    }
}
