// swift-tools-version: 6.1
import PackageDescription

// Uses Fermata as any package does; outside this repository the dependency is a URL and a version instead of a path.
let package = Package(
  name: "StreamingExample",
  dependencies: [.package(name: "fermata", path: "../..")],
  targets: [
    .executableTarget(name: "StreamingExample", dependencies: [.product(name: "Fermata", package: "fermata")])
  ],
  swiftLanguageModes: [.v6]
)
