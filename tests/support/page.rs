//! A page as a browser reads it: elements by CSS selector, their text, links and forms.

use scraper::{ElementRef, Html, Selector};

/// A parsed page. Selectors are those of CSS; a bad one fails the test.
pub struct Page {
    html: Html,
}

impl Page {
    pub fn parse(body: &str) -> Self {
        Self {
            html: Html::parse_document(body),
        }
    }

    /// The elements in the order of the page.
    fn all(&self, selector: &str) -> Vec<ElementRef<'_>> {
        self.html.select(&parse(selector)).collect()
    }

    fn first(&self, selector: &str) -> ElementRef<'_> {
        let first = self.all(selector).into_iter().next();
        first.unwrap_or_else(|| panic!("no {selector} in {}", self.html.html()))
    }

    pub fn has(&self, selector: &str) -> bool {
        self.count(selector) > 0
    }

    pub fn count(&self, selector: &str) -> usize {
        self.all(selector).len()
    }

    /// The text of the first such element; see [`text`].
    pub fn text(&self, selector: &str) -> String {
        text(self.first(selector))
    }

    /// The text of each such element.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        self.all(selector).into_iter().map(text).collect()
    }

    /// The text of the first such element as it is, with all of its white space.
    pub fn verbatim(&self, selector: &str) -> String {
        self.first(selector).text().collect()
    }

    /// An attribute of the first such element.
    pub fn attribute(&self, selector: &str, name: &str) -> String {
        let value = self.first(selector).attr(name);
        value
            .unwrap_or_else(|| panic!("{selector} has no {name}"))
            .to_owned()
    }

    /// An attribute of each such element that has it.
    pub fn attributes(&self, selector: &str, name: &str) -> Vec<String> {
        let values = self.all(selector).into_iter().filter_map(|e| e.attr(name));
        values.map(str::to_owned).collect()
    }

    /// The values of all attributes of all such elements.
    pub fn attribute_values(&self, selector: &str) -> Vec<String> {
        let elements = self.all(selector).into_iter();
        elements
            .flat_map(|element| element.value().attrs().map(|(_, value)| value.to_owned()))
            .collect()
    }

    /// Whether a link leads to exactly this address.
    pub fn has_link(&self, to: &str) -> bool {
        self.has(&format!("a[href=\"{to}\"]"))
    }

    /// The address of the first link with this text.
    pub fn link(&self, words: &str) -> Option<String> {
        let link = self.all("a[href]").into_iter().find(|a| text(*a) == words);
        link.and_then(|a| a.attr("href")).map(str::to_owned)
    }

    /// Whether a form, or a button of one, posts to exactly this address.
    pub fn has_form(&self, action: &str) -> bool {
        self.has(&format!(
            "form[action=\"{action}\"], button[formaction=\"{action}\"]"
        ))
    }

    /// The value of the first field with this name: what a browser would send.
    pub fn field(&self, name: &str) -> Option<String> {
        self.field_in("", name)
    }

    /// The value of a field of the form with this action.
    pub fn form_field(&self, action: &str, name: &str) -> String {
        self.field_in(&format!("form[action=\"{action}\"]"), name)
            .unwrap_or_else(|| panic!("no field {name} for {action} in {}", self.html.html()))
    }

    fn field_in(&self, scope: &str, name: &str) -> Option<String> {
        let field = self
            .all(&format!("{scope} [name=\"{name}\"]"))
            .into_iter()
            .next()?;

        match field.value().name() {
            "textarea" => Some(field.text().collect()),
            "select" => {
                let options: Vec<_> = field.select(&parse("option")).collect();
                let chosen = options
                    .iter()
                    .find(|option| option.attr("selected").is_some());
                let option = chosen.or(options.first())?;
                Some(
                    option
                        .attr("value")
                        .map_or_else(|| text(*option), str::to_owned),
                )
            }
            _ => field.attr("value").map(str::to_owned),
        }
    }
}

fn parse(selector: &str) -> Selector {
    Selector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"))
}

/// An element's text, with its white space reduced to single blanks, as it is displayed.
fn text(element: ElementRef<'_>) -> String {
    let text: String = element.text().collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
