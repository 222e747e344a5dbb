//! What an answer costs: US dollars per million tokens, by `provider/model` or by model alone. A table that an operator
//! keeps; none is built in, since figures age and an old one is worse than none. What has no price costs *unknown*, never
//! nothing.

use std::collections::HashMap;

use crate::config::{Config, PriceConfig, TargetConfig};
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
    /// Tokens read from the provider's prompt cache cost `cached_input`, and as much as others where that is not set.
    pub fn cost_usd(&self, provider: &str, model: &str, usage: Usage) -> Option<f64> {
        if self.by_name.is_empty() {
            return None;
        }
        let price = self.by_name.get(&format!("{provider}/{model}")).or_else(|| self.by_name.get(model))?;
        Some(cost_usd(price, usage))
    }

    /// The public names of the configuration that have no price: routes, and models that it offers of a provider. Keys with a
    /// budget cannot use them.
    pub fn missing(&self, config: &Config) -> Vec<String> {
        let known = |public: &str, provider: &str, model: &str| {
            let nothing = Usage::default();
            self.cost_usd(provider, model, nothing).or_else(|| self.public_cost_usd(public, nothing)).is_some()
        };
        let routes = config.routes.iter().filter(|route| {
            let is_known = |target: &TargetConfig| known(&route.name, &target.provider, &target.model);
            !route.targets.iter().all(is_known)
        });
        let routes = routes.map(|route| route.name.clone());
        let offered = config.providers.iter().flat_map(|provider| {
            let missing = provider.models.iter().filter(|model| !known(model, &provider.name, model));
            missing.map(|model| format!("{}/{model}", provider.name))
        });
        routes.chain(offered).collect()
    }

    /// What a public model name's tokens cost, where the name itself has a price.
    pub fn public_cost_usd(&self, model: &str, usage: Usage) -> Option<f64> {
        self.by_name.get(model).map(|price| cost_usd(price, usage))
    }
}

fn cost_usd(price: &PriceConfig, usage: Usage) -> f64 {
    let cached = usage.cached_tokens.min(usage.input_tokens);
    let fresh = usage.input_tokens - cached;
    let micro_usd = fresh as f64 * price.input
        + cached as f64 * price.cached_input.unwrap_or(price.input)
        + usage.output_tokens as f64 * price.output;
    micro_usd / MILLION
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(model: &str, input: f64, cached_input: Option<f64>) -> PriceConfig {
        PriceConfig { model: model.to_owned(), input, output: 10.0, cached_input }
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
    fn what_the_configuration_offers_without_a_price_is_named() {
        let file = r#"
            [providers.dear]
            base_url = "http://localhost:1/v1"
            models = ["m", "n"]
            [providers.cheap]
            base_url = "http://localhost:2/v1"
            models = ["m"]
            [routes.both]
            targets = [{ provider = "dear", model = "m" }, { provider = "cheap", model = "m" }]
            [routes.named]
            targets = [{ provider = "cheap", model = "m" }]
        "#;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ish.toml");
        std::fs::write(&path, file).unwrap();
        let config = Config::read(&crate::config::Environment::from([]), Some(&path)).unwrap();
        let missing = |prices: &[&str]| {
            let mut missing = Prices::new(prices.iter().map(|model| price(model, 1.0, None))).missing(&config);
            missing.sort();
            missing
        };
        assert_eq!(missing(&[]), ["both", "cheap/m", "dear/m", "dear/n", "named"]);
        assert_eq!(missing(&["dear/m", "named"]), ["both", "cheap/m", "dear/n"]);
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
