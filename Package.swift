// swift-tools-version: 6.1
import PackageDescription

// The folders under Sources are the floors of the house, lowest first. A floor imports only floors above it in this list.
let package = Package(
  name: "fermata",
  products: [
    .library(name: "Fermata", targets: ["Fermata"]),
    .executable(name: "fermata", targets: ["FermataCommand"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/apple/swift-numerics", from: "1.0.0"),
  ],
  targets: [
    .target(
      name: "CFermataKernels", path: "Sources/Kernels",
      cSettings: [.headerSearchPath(".")],
      linkerSettings: [.linkedLibrary("dnnl"), .linkedLibrary("gomp"), .linkedLibrary("m")]),
    .target(name: "FermataFiles", path: "Sources/Files"),
    .target(name: "FermataTensors", dependencies: ["CFermataKernels"], path: "Sources/Tensors"),
    .target(name: "FermataLayers", dependencies: ["FermataTensors", "CFermataKernels"], path: "Sources/Layers"),
    .target(
      name: "FermataMixers",
      dependencies: [
        "FermataLayers", "FermataFiles", "CFermataKernels", .product(name: "RealModule", package: "swift-numerics"),
      ],
      path: "Sources/Mixers"),
    .target(name: "FermataModels", dependencies: ["FermataMixers", "FermataFiles"], path: "Sources/Models"),
    .target(
      name: "FermataInference",
      dependencies: ["FermataModels", .product(name: "RealModule", package: "swift-numerics")],
      path: "Sources/Inference"),
    .target(name: "FermataTasks", dependencies: ["FermataFiles"], path: "Sources/Tasks"),
    .target(name: "FermataReports", dependencies: ["FermataFiles"], path: "Sources/Reports"),
    .target(
      name: "FermataTraining",
      dependencies: ["CFermataKernels", "FermataInference", "FermataTasks", "FermataReports"],
      path: "Sources/Training"),
    .target(name: "Fermata", dependencies: ["FermataTraining"], path: "Sources/Fermata"),
    .executableTarget(
      name: "FermataCommand",
      dependencies: ["Fermata", .product(name: "ArgumentParser", package: "swift-argument-parser")],
      path: "Sources/Command"),
    .target(
      name: "FermataTestSupport", dependencies: ["FermataTensors", "CFermataKernels"], path: "Tests/Support"),
    .testTarget(name: "FilesTests", dependencies: ["FermataFiles"]),
    .testTarget(name: "TasksTests", dependencies: ["FermataTasks"]),
    .testTarget(name: "ReportsTests", dependencies: ["FermataReports"]),
    .testTarget(name: "TensorsTests", dependencies: ["FermataTensors", "FermataTestSupport"]),
    .testTarget(name: "LayersTests", dependencies: ["FermataLayers", "FermataTestSupport"]),
    .testTarget(name: "MixersTests", dependencies: ["FermataMixers", "FermataTestSupport"]),
    .testTarget(name: "ModelsTests", dependencies: ["FermataModels", "FermataTestSupport"]),
    .testTarget(name: "InferenceTests", dependencies: ["FermataInference", "FermataTestSupport"]),
    .testTarget(name: "TrainingTests", dependencies: ["FermataTraining", "FermataTestSupport"]),
    .testTarget(name: "CommandTests", dependencies: ["FermataCommand"]),
  ],
  swiftLanguageModes: [.v6]
)
