//! One configuration after another in a running process: what keeps its name keeps its number.

use super::resolve::give_each_route_a_connection;
use super::{Action, Config, Input, Output, Route};

/// Something that has a name and can leave the configuration.
trait Named {
    fn name(&self) -> &str;
    fn retire(&mut self);
}

impl Config {
    /// This configuration in the place of `before`: entries have the numbers that their names had there, new names come behind
    /// them, and what is named no more stays where it was, as [retired](Route::retired).
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let Self { inputs, outputs, routes, order, .. } = self;
        let (inputs, _) = numbered(&before.inputs, inputs);
        let (mut outputs, of_output) = numbered(&before.outputs, outputs);
        let (mut routes, of_route) = numbered(&before.routes, routes);
        let order: Vec<usize> = order.iter().filter_map(|route| of_route.get(*route).copied()).collect();
        for route in &order {
            if let Some(Action::Forward { output, .. }) = routes.get_mut(*route).map(|route| &mut route.action) {
                *output = of_output.get(*output).copied().unwrap_or(*output);
            }
        }
        give_each_route_a_connection(&mut outputs, &routes);
        Self { inputs, outputs, routes, order, ..self }
    }
}

/// All of both, and the number of each of `now`.
fn numbered<T: Named + Clone>(before: &[T], now: Vec<T>) -> (Vec<T>, Vec<usize>) {
    let mut all = before.to_vec();
    all.iter_mut().for_each(Named::retire);
    let mut numbers = Vec::with_capacity(now.len());
    for one in now {
        let known = all.iter().position(|other| other.name() == one.name());
        let number = known.unwrap_or(all.len());
        match all.get_mut(number) {
            Some(place) => *place = one,
            None => all.push(one),
        }
        numbers.push(number);
    }
    (all, numbers)
}

impl Named for Input {
    fn name(&self) -> &str {
        &self.name
    }

    fn retire(&mut self) {
        self.retired = true;
    }
}

impl Named for Output {
    fn name(&self) -> &str {
        &self.name
    }

    fn retire(&mut self) {
        self.retired = true;
    }
}

impl Named for Route {
    fn name(&self) -> &str {
        &self.name
    }

    fn retire(&mut self) {
        self.retired = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    fn config(outputs: &str, routes: &str) -> Config {
        let text =
            format!("inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\noutputs: {{{outputs}}}\nroutes: [{routes}]\n");
        let text = text.replace("TO", "{to: 'tcp://127.0.0.1:9'}");
        load(&Source::Text { name: "test".into(), text }, &|_| None).unwrap().config
    }

    #[test]
    fn numbers_stay_new_ones_come_behind_and_what_left_is_retired() {
        let rfc = "template: '%msg%'";
        let route = |name: &str, output: &str| format!("{{name: {name}, program: {name}, output: {output}, {rfc}}}");
        let first = config("a: TO, b: TO", &[route("x", "a"), route("y", "b")].join(","));
        let second = config("c: TO, b: TO", &[route("z", "c"), route("y", "c"), route("w", "b")].join(","));
        let both = second.after(&first);
        let names = |config: &Config| -> Vec<(String, bool)> {
            config.routes.iter().map(|route| (route.name.clone(), route.retired)).collect()
        };
        let expected = [("x", true), ("y", false), ("z", false), ("w", false)];
        assert_eq!(names(&both), expected.map(|(name, retired)| (name.to_owned(), retired)));
        assert_eq!(both.order, [2, 1, 3]);
        let to = |route: &Route| match route.action {
            Action::Forward { output, .. } => both.outputs[output].name.as_str(),
            Action::Discard => "",
        };
        assert_eq!(both.routes.iter().map(to).collect::<Vec<_>>(), ["a", "c", "c", "b"]);
        assert_eq!(both.outputs.iter().map(|output| output.retired).collect::<Vec<_>>(), [true, false, false]);
        // What left comes back to its place.
        let third = config("a: TO", &route("x", "a")).after(&both);
        assert_eq!((third.order.as_slice(), third.routes.len(), third.routes[0].retired), ([0].as_slice(), 4, false));
    }
}
