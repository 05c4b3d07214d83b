// Package spec reads config.json.
package spec
