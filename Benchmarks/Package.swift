// swift-tools-version: 6.1
import PackageDescription

// Measures Fermata; nobody who depends on Fermata builds it.
let package = Package(
  name: "Benchmarks",
  dependencies: [.package(name: "fermata", path: "..")],
  targets: [
    .executableTarget(
      name: "Bench",
      dependencies: [
        .product(name: "Fermata", package: "fermata"), .product(name: "FermataKernels", package: "fermata"),
      ])
  ],
  swiftLanguageModes: [.v6]
)
