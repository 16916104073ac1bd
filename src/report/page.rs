//! [`document`]: a page of plots, tables and episodes as one file that needs nothing else: no network, no library, no font.
//!
//! The page's own script (`page/*.js`) draws everything from one block of JSON, whose
//! form the caller knows; here it is only put into the page. The page forbids all other scripts and styles by the hashes of its
//! own, and everything from the network.

use serde_json::Value;

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(
    include_str!("page/plots.js"),
    include_str!("page/figures.js"),
    include_str!("page/episodes.js"),
    include_str!("page/page.js")
);

/// SHA-256 of [`STYLE`] and [`SCRIPT`], in base64: all that the page lets a browser apply and run.
const STYLE_HASH: &str = "lNuWx4sZOuuYFCWR3rabnan8UOdrHk7DmD6I4jwbsdY=";
const SCRIPT_HASH: &str = "HIqr6N5gNR7UCDmIoz4wlofLf1ah7BoOxC/qy/mFTPM=";

/// The page with this title, drawn from `data`.
pub fn document(title: &str, data: &Value) -> String {
    // Nothing in a string may end the block or begin a comment.
    let data = data.to_string().replace('<', "\\u003c");
    let pieces = [
        ("@STYLE_HASH@", STYLE_HASH),
        ("@SCRIPT_HASH@", SCRIPT_HASH),
        ("@TITLE@", &escaped(title)),
        ("@STYLE@", STYLE),
        ("@DATA@", &data),
        ("@SCRIPT@", SCRIPT),
    ];
    // In the order in which they stand in the frame: what is put in is not looked at again.
    let (mut page, mut rest) = (String::new(), FRAME);
    for (name, text) in pieces {
        if let Some((before, after)) = rest.split_once(name) {
            page.push_str(before);
            page.push_str(text);
            rest = after;
        }
    }
    page + rest
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "hub")]
    #[test]
    fn the_page_allows_its_own_style_and_script_and_no_others() {
        use base64::Engine;
        use sha2::{Digest, Sha256};
        let hash = |text: &str| {
            let digest = Sha256::digest(text.as_bytes());
            base64::engine::general_purpose::STANDARD.encode(digest)
        };
        assert_eq!(STYLE_HASH, hash(STYLE), "the style's hash");
        assert_eq!(SCRIPT_HASH, hash(SCRIPT), "the script's hash");
        let page = document("", &Value::Null);
        for hash in [STYLE_HASH, SCRIPT_HASH] {
            assert!(page.contains(&format!("'sha256-{hash}'")));
        }
        assert!(!page.contains("unsafe-inline"));
    }

    #[test]
    fn whatever_the_data_and_the_title_hold_stays_data_and_title() {
        let nasty = "</script><script>alert(1)</script><!-- @SCRIPT@ & \"";
        let data = serde_json::json!({ "title": nasty });
        let page = document(nasty, &data);
        assert_eq!(
            page.matches("<script").count(),
            2,
            "the data and the script"
        );
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(page.contains("<title>&lt;/script&gt;"));
        assert!(page.ends_with("</script>\n</body>\n</html>\n"));
        let block = page.split_once("application/json\">").expect("a block").1;
        let block = block.split_once("</script>").expect("its end").0;
        let found: Value = serde_json::from_str(block).expect("JSON");
        assert_eq!(found, data);
    }

    #[test]
    fn every_place_of_the_frame_is_filled() {
        let page = document("runs", &Value::Null);
        let frame = page.replace(SCRIPT, "").replace(STYLE, "");
        assert!(!frame.contains('@'), "{frame}");
        assert!(!SCRIPT.contains("</") && !STYLE.contains("</"));
    }
}
