//! Compiles the border to C++ (`shim/border.cpp`) against the headers of the
//! llama.cpp that is linked.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=shim/border.cpp");
    // llama-cpp-sys-2 tells where its CMake package is: `…/lib/cmake`, beside
    // which the headers were installed.
    println!("cargo:rerun-if-env-changed=DEP_LLAMA_GGML_CMAKE_DIR");
    let cmake = std::env::var("DEP_LLAMA_GGML_CMAKE_DIR")
        .expect("llama-cpp-sys-2 names the folder of its CMake package");
    let root = Path::new(&cmake)
        .ancestors()
        .nth(2)
        .expect("the folder of the CMake package lies two below its root");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("shim/border.cpp")
        .include(root.join("include"))
        .warnings_into_errors(true)
        // llama-cpp-sys-2 links the C++ library, dynamic or static as it was told.
        .cpp_link_stdlib(None)
        .compile("delayline_border");
}
