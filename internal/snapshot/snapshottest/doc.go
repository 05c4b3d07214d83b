// Package snapshottest is the contract of a snapshot driver as tests.
//
//	func TestOverlay(t *testing.T) { snapshottest.Run(t, snapshot.OverlayDriver{}) }
package snapshottest
