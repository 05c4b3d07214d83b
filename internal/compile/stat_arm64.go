package compile

// struct stat of this architecture.
const (
	statSize = 128
	statMode = 16
	statRdev = 32
)
