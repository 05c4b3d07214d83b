// Package spec turns a bundle's config.json into a *specs.Spec that the compiler
// can trust, after the OCI runtime-spec 1.3 (config.md, config-linux.md).
//
// Life cycle: [Load] (or [Decode]) reads the text, [Validate] refuses what is wrong
// on any host or not supported, each time in one line that names the field, and
// [Normalise] brings the rest into one form. After that a spec does not change.
//
// Nothing here uses reflection: codec.go is generated from the types of specs-go by
// TestGenerated, over the scanner and writer in jsonx. The package needs no work at
// init, and strings of a decoded spec alias the text.
//
// Caveats: sections of other platforms (windows, vm, …) are only noted as present, so
// that Validate can refuse them. A field in another case ("Hostname") is read, as
// encoding/json does, with a warning. A repeated field replaces the earlier one, with a
// warning; encoding/json would merge the two.
//
// Tables of names (capabilities, signals, limits, namespaces, mount options, sysctls)
// live here as well, as arrays of constants and switches.
//
//	s, warnings, err := spec.Load("/bundle")
//	if err == nil {
//		err = spec.Validate(s, spec.ValidateOptions{})
//	}
//	if err != nil {
//		return err // config.json: process.user.uid: want a number, got a string (offset 123)
//	}
//	spec.Normalise(s)
package spec
