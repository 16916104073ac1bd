//! What a build without a feature says to those who ask for it, through the library alone.
#![allow(clippy::unwrap_used)]

#[cfg(not(feature = "arrow"))]
#[test]
fn a_folder_of_arrow_files_is_refused_with_the_name_of_the_feature() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data/minari/arrow-v0");
    let error = trajformer::data::load_one(&folder).unwrap_err().to_string();
    assert!(error.contains("feature `arrow`"), "{error}");
}

#[cfg(not(feature = "pictures"))]
#[test]
fn a_picture_is_refused_with_the_name_of_the_feature_and_leaves_no_file() {
    use trajformer::report::{check_built, plan};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.svg");
    let error = plan::draw(&path, &plan::Plan::default()).unwrap_err();
    assert!(error.to_string().contains("feature `pictures`"), "{error}");
    let error = check_built().unwrap_err();
    assert!(error.to_string().contains("feature `pictures`"), "{error}");
    assert!(!path.exists());
}

#[cfg(not(feature = "text"))]
#[test]
fn an_unknown_instruction_is_refused_with_the_name_of_the_feature_and_a_known_one_is_not() {
    use trajformer::text::{Instructions, TextConfig, encode};
    let config: TextConfig = serde_json::from_value(
        serde_json::json!({"encoder": "nowhere", "dimension": 2, "words": false}),
    )
    .unwrap();
    let mut known = Instructions::new(2);
    known.insert("north", &[1.0, 0.0]).unwrap();
    let device = candle_core::Device::Cpu;
    encode(&mut known, ["north"], &config, &device).unwrap();
    let error = encode(&mut known, ["south"], &config, &device).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("feature `text`") && error.contains("south"),
        "{error}"
    );
}

#[cfg(not(feature = "hub"))]
#[test]
fn a_model_that_is_not_in_the_cache_is_refused_with_the_name_of_the_feature() {
    let path = std::path::Path::new("hf://someone/a-model-that-nobody-has");
    let error = trajformer::hub::local(path).unwrap_err().to_string();
    assert!(error.contains("feature `hub`"), "{error}");
}
