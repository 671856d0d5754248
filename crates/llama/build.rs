//! Compiles the boundary to C++ (`shim/border.cpp`) against the headers of the
//! llama.cpp version that is linked.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=shim/border.cpp");
    // The path of llama-cpp-sys-2's CMake package, `ROOT/lib/cmake`; the headers are in
    // `ROOT/include`.
    println!("cargo:rerun-if-env-changed=DEP_LLAMA_GGML_CMAKE_DIR");
    let cmake = std::env::var("DEP_LLAMA_GGML_CMAKE_DIR")
        .expect("DEP_LLAMA_GGML_CMAKE_DIR, which llama-cpp-sys-2's build script sets");
    let root = Path::new(&cmake)
        .ancestors()
        .nth(2)
        .expect("DEP_LLAMA_GGML_CMAKE_DIR is a path of the form ROOT/lib/cmake");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("shim/border.cpp")
        .include(root.join("include"))
        .warnings_into_errors(true)
        // llama-cpp-sys-2 links the C++ library, dynamically or by `static-stdcxx` statically.
        .cpp_link_stdlib(None)
        .compile("delayline_border");
}
