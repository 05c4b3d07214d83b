// Package jsonx reads and writes JSON (RFC 8259) without reflection.
//
// encoding/json costs a small process about 3 ms and 100 page faults; vitrun
// reads one config.json and one state.json, whose shape is known when it is built.
//
// A [Scanner] pulls values in the order of the text. Its first error sticks:
// every later call returns zero values and every loop ends, so a decoder reads
// straight through and looks at [Scanner.End] once. It accepts and refuses what
// encoding/json does, with these differences: a repeated key replaces the value
// (encoding/json merges), and repeated or wrongly cased keys are warned about.
//
//	s := jsonx.NewScanner(b)
//	for name := range s.Object {
//		switch name {
//		case "pid":
//			pid = s.Int(64)
//		case "args":
//			for range s.Array {
//				args = append(args, s.String())
//			}
//		default:
//			s.Unknown() // warns; a value that nobody reads is checked and skipped
//		}
//	}
//	err := s.End()
//
// Strings without escapes alias the input: it must not change afterwards.
//
// A [Writer] writes the bytes that json.Marshal (or json.MarshalIndent) would.
package jsonx
