//! Whether the steps of a definition are a graph that can be run: names that are names and stand once, dependencies that there are,
//! and no circle. Says what is wrong by the names of the steps. Without a circle, and with dependencies that there are, every step
//! is reached.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graphmap::DiGraphMap;

/// Steps as the graph knows them: each by its place, pointing at what waits for it.
type Steps = DiGraphMap<usize, (), std::hash::RandomState>;

/// How long the name of a workflow or a step may be: both stand in the kind of a task.
const NAME_CHARS: usize = 40;

/// Why a definition cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// A workflow's or a step's name.
    #[error("{0:?} is no name of a workflow or a step: up to {NAME_CHARS} letters, digits and _-.")]
    Name(String),
    /// It does nothing.
    #[error("the workflow {0:?} has no steps")]
    Empty(String),
    /// Two steps have one name.
    #[error("the workflow {workflow:?} has two steps called {step:?}")]
    Twice {
        /// The workflow.
        workflow: String,
        /// Their name.
        step: String,
    },
    /// A step waits for one that there is not.
    #[error(
        "the step {step:?} of the workflow {workflow:?} waits for {missing:?}, which is none of its steps ({known})"
    )]
    Unknown {
        /// The workflow.
        workflow: String,
        /// Who waits.
        step: String,
        /// For whom.
        missing: String,
        /// Those that there are.
        known: String,
    },
    /// Steps wait for each other.
    #[error("the workflow {workflow:?} goes in a circle: {}", .path.join(" -> "))]
    Circle {
        /// The workflow.
        workflow: String,
        /// The steps on it, the first once more at the end; each waits for the one before it.
        path: Vec<String>,
    },
    /// Two definitions have one name and version.
    #[error("the workflow {workflow:?} has version {version} twice")]
    Known {
        /// The workflow.
        workflow: String,
        /// The version.
        version: u16,
    },
}

/// The steps' places in an order in which each comes after all that it waits for. `steps` are names, each with those it waits for.
pub(super) fn order(workflow: &str, steps: &[(&str, &[String])]) -> Result<Vec<usize>, DefinitionError> {
    if let Some(name) = steps.iter().map(|(name, _)| *name).chain([workflow]).find(|name| !is_name(name)) {
        return Err(DefinitionError::Name(name.to_owned()));
    }
    if steps.is_empty() {
        return Err(DefinitionError::Empty(workflow.to_owned()));
    }
    let graph = graph(workflow, steps)?;
    toposort(&graph, None).map_err(|_| DefinitionError::Circle {
        workflow: workflow.to_owned(),
        path: circle(&graph).into_iter().map(|step| steps[step].0.to_owned()).collect(),
    })
}

fn graph(workflow: &str, steps: &[(&str, &[String])]) -> Result<Steps, DefinitionError> {
    let mut places = BTreeMap::new();
    for (place, (name, _)) in steps.iter().enumerate() {
        if places.insert(*name, place).is_some() {
            return Err(DefinitionError::Twice { workflow: workflow.to_owned(), step: (*name).to_owned() });
        }
    }
    let mut graph = Steps::new();
    for (place, (name, needs)) in steps.iter().enumerate() {
        graph.add_node(place);
        for needed in *needs {
            let Some(&from) = places.get(needed.as_str()) else {
                return Err(DefinitionError::Unknown {
                    workflow: workflow.to_owned(),
                    step: (*name).to_owned(),
                    missing: needed.clone(),
                    known: steps.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
                });
            };
            graph.add_edge(from, place, ());
        }
    }
    Ok(graph)
}

/// The steps on one circle, the first once more at the end; empty where there is none.
fn circle(graph: &Steps) -> Vec<usize> {
    let is_circle = |group: &Vec<usize>| group.len() > 1 || graph.contains_edge(group[0], group[0]);
    let Some(group) = tarjan_scc(graph).into_iter().find(is_circle) else { return Vec::new() };
    let group: BTreeSet<_> = group.into_iter().collect();
    let mut path: Vec<usize> = group.first().copied().into_iter().collect();
    // From each step of such a group another of it follows, so that this comes back to one that it has passed.
    while let Some(next) = path.last().and_then(|last| graph.neighbors(*last).find(|next| group.contains(next))) {
        if let Some(begin) = path.iter().position(|passed| *passed == next) {
            path.drain(..begin);
            path.push(next);
            break;
        }
        path.push(next);
    }
    path
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.len() <= NAME_CHARS && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(steps: &[(&str, &[&str])]) -> Result<Vec<usize>, String> {
        let needs: Vec<Vec<String>> =
            steps.iter().map(|(_, needs)| needs.iter().map(|need| (*need).to_owned()).collect()).collect();
        let steps: Vec<_> = steps.iter().zip(&needs).map(|((name, _), needs)| (*name, needs.as_slice())).collect();
        order("order", &steps).map_err(|error| error.to_string())
    }

    #[test]
    fn each_step_comes_after_those_it_waits_for() {
        let order = said(&[("d", &["b", "c"]), ("b", &["a"]), ("c", &["a"]), ("a", &[])]).unwrap();
        assert_eq!((order[0], order[3]), (3, 0));
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        for (steps, message) in [
            (&[][..], r#"the workflow "order" has no steps"#),
            (&[("a", &[][..]), ("a", &[])], r#"the workflow "order" has two steps called "a""#),
            (
                &[("a", &[]), ("b", &["c"])],
                r#"the step "b" of the workflow "order" waits for "c", which is none of its steps (a, b)"#,
            ),
            (&[("a b", &[])], r#""a b" is no name of a workflow or a step: up to 40 letters, digits and _-."#),
            (&[("a", &["a"])], r#"the workflow "order" goes in a circle: a -> a"#),
            (
                &[("go", &[]), ("a", &["go", "c"]), ("b", &["a"]), ("c", &["b"]), ("end", &["c"])],
                r#"the workflow "order" goes in a circle: a -> b -> c -> a"#,
            ),
        ] {
            assert_eq!(said(steps).unwrap_err(), message);
        }
    }
}
