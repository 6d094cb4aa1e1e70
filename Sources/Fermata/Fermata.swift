// `import Fermata` gives a client every floor of the house.
@_exported import FermataFiles
@_exported import FermataInference
@_exported import FermataLayers
@_exported import FermataMixers
@_exported import FermataModels
@_exported import FermataReports
@_exported import FermataTasks
@_exported import FermataTemplates
@_exported import FermataTensors
@_exported import FermataTokenizers
@_exported import FermataTraining
