// swift-tools-version: 6.1
import PackageDescription

// A package that uses Fermata as anyone's would. Outside this repository the dependency is a version:
// .package(url: "…/fermata", from: "…")
let package = Package(
  name: "StreamingExample",
  dependencies: [.package(name: "fermata", path: "../..")],
  targets: [
    .executableTarget(name: "StreamingExample", dependencies: [.product(name: "Fermata", package: "fermata")])
  ],
  swiftLanguageModes: [.v6]
)
