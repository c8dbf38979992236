//! What the page shows, and what it may load: the captcha's own script and
//! frame, and nothing else.

/// The content security policy (CSP level 3). The addresses are those that
/// Google's documentation of reCAPTCHA v2 asks for.
pub(super) const POLICY: &str = "default-src 'none'; \
    script-src https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/; \
    frame-src https://www.google.com/recaptcha/ https://recaptcha.google.com/recaptcha/; \
    connect-src https://www.google.com/recaptcha/; \
    img-src https://www.gstatic.com/recaptcha/ data:; \
    style-src 'unsafe-inline'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The page after the response was taken.
pub(super) const DONE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Rememberizer captcha</title>\
    <body><h1>Done</h1><p>The response is back in the terminal. This tab can be closed.</p>";

/// The page with the widget.
pub(super) fn widget(site_key: &str, note: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Rememberizer captcha</title>\
         <script src=\"https://www.google.com/recaptcha/api.js\" async defer></script>\
         <body><h1>Rememberizer captcha</h1><p>{note}</p>\
         <form method=\"post\"><div class=\"g-recaptcha\" data-sitekey=\"{}\"></div>\
         <p><button>Hand the response to the terminal</button></p></form>\
         <p>A site key works on the domains that its owner allows. If the box above shows an error, this one \
         does not allow this page; then sign in with the browser and take that session over instead: \
         <code>rememberizer login --refresh-token-stdin</code>.</p>",
        escaped(site_key)
    )
}

/// A text for an attribute. A site key holds none of these, but it comes from a file.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
