fn main() {
    println!("it ran");
}
