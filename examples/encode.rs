//! Sentence embeddings, one JSON object per sentence on standard output.
//!
//! ```sh
//! cargo run --release --example encode -- FOLDER "go to the upper left room" "head north"
//! ```

use candle_core::Device;
use trajformer::text::SentenceEncoder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next() else {
        return Err("expected a folder with a BERT or GPT-2 (or hf://ID), then sentences".into());
    };
    let encoder = SentenceEncoder::open(&folder, &Device::Cpu)?;
    for sentence in arguments {
        let embedding = encoder.encode(&sentence)?;
        let line = serde_json::json!({ "sentence": sentence, "embedding": embedding });
        println!("{line}");
    }
    Ok(())
}
