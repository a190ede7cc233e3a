fn main() {
    for c in whittle::api::crds() {
        println!("---\n{}", serde_saphyr::to_string(&c).unwrap());
    }
}
