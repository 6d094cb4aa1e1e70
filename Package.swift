// swift-tools-version: 6.1
import PackageDescription

// The folders under Sources are the floors of the house, lowest first. A floor imports only floors above it in this list.
// Each target names everything below it, not only its neighbours: what is compiled again after a change to a floor is
// decided by these lists, and the layout of a type reaches further than one floor.
let realModule: Target.Dependency = .product(name: "RealModule", package: "swift-numerics")
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let tensors: [Target.Dependency] = ["CFermataKernels", "FermataTensors"]
let layers: [Target.Dependency] = tensors + ["FermataLayers"]
let mixers: [Target.Dependency] = layers + ["FermataFiles", "FermataMixers"]
let models: [Target.Dependency] = mixers + ["FermataModels"]
let inference: [Target.Dependency] = models + ["FermataTokenizers", "FermataTemplates", "FermataInference"]
let training: [Target.Dependency] = inference + ["FermataTasks", "FermataReports", "FermataTraining"]

let package = Package(
  name: "fermata",
  products: [
    .library(name: "Fermata", targets: ["Fermata"]),
    .executable(name: "fermata", targets: ["FermataCommand"]),
    // For Benchmarks, which measures kernels by themselves; no promise that they stay as they are.
    .library(name: "FermataKernels", targets: ["CFermataKernels"]),
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
    .target(name: "FermataTokenizers", dependencies: ["FermataFiles"], path: "Sources/Tokenizers"),
    .target(name: "FermataTensors", dependencies: ["CFermataKernels"], path: "Sources/Tensors"),
    .target(name: "FermataLayers", dependencies: tensors, path: "Sources/Layers"),
    .target(name: "FermataMixers", dependencies: layers + ["FermataFiles", realModule], path: "Sources/Mixers"),
    .target(name: "FermataModels", dependencies: mixers, path: "Sources/Models"),
    .target(name: "FermataTemplates", dependencies: ["FermataFiles"], path: "Sources/Templates"),
    .target(
      name: "FermataInference", dependencies: models + ["FermataTokenizers", "FermataTemplates", realModule],
      path: "Sources/Inference"),
    .target(name: "FermataTasks", dependencies: ["FermataFiles"], path: "Sources/Tasks"),
    .target(name: "FermataReports", dependencies: ["FermataFiles"], path: "Sources/Reports"),
    .target(
      name: "FermataTraining", dependencies: inference + ["FermataTasks", "FermataReports"], path: "Sources/Training"),
    .target(name: "Fermata", dependencies: training, path: "Sources/Fermata"),
    .executableTarget(
      name: "FermataCommand", dependencies: training + ["Fermata", argumentParser],
      path: "Sources/Command"),
    .target(name: "FermataTestSupport", dependencies: tensors, path: "Tests/Support"),
    // Reads damaged files: `make fuzz`.
    .target(name: "FuzzWatch", path: "Tests/FuzzWatch"),
    .executableTarget(
      name: "FermataFuzz", dependencies: inference + ["FermataTestSupport", "FuzzWatch", argumentParser],
      path: "Tests/Fuzz"),
    .testTarget(name: "FilesTests", dependencies: ["FermataFiles"]),
    .testTarget(name: "TokenizersTests", dependencies: ["FermataFiles", "FermataTokenizers"]),
    .testTarget(name: "TemplatesTests", dependencies: ["FermataFiles", "FermataTemplates"]),
    .testTarget(name: "TasksTests", dependencies: ["FermataFiles", "FermataTasks"]),
    .testTarget(name: "ReportsTests", dependencies: ["FermataFiles", "FermataReports"]),
    .testTarget(name: "TensorsTests", dependencies: tensors + ["FermataTestSupport"]),
    .testTarget(name: "LayersTests", dependencies: layers + ["FermataTestSupport"]),
    .testTarget(name: "MixersTests", dependencies: mixers + ["FermataTestSupport"]),
    .testTarget(name: "ModelsTests", dependencies: models + ["FermataTestSupport"]),
    .testTarget(name: "InferenceTests", dependencies: inference + ["FermataTestSupport"]),
    .testTarget(
      name: "TrainingTests", dependencies: training + ["FermataTestSupport"], exclude: ["StepCosts.json"]),
    .testTarget(name: "CommandTests", dependencies: training + ["Fermata", "FermataCommand"]),
  ],
  swiftLanguageModes: [.v6]
)
