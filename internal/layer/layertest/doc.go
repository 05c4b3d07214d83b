// Package layertest makes archives for tests and describes trees so that two
// can be compared line by line.
//
//	dir := layertest.Apply(t, layer.ApplyOptions{}, layertest.Dir("a"), layertest.File("a/b", "text"))
//	layertest.Equal(t, layertest.Tree(t, dir), want)
package layertest
