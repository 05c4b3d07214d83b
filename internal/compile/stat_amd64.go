package compile

// struct stat of this architecture.
const (
	statSize = 144
	statMode = 24
	statRdev = 40
)
