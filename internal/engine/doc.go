// Package engine is the container engine without its command line: container records and their life cycle.
//
//	<root>/containers/<id>/container.json   the record (Container)
//	<root>/containers/<id>/lock             flocked by whoever looks after the container: its maker, then its monitor
//	<root>/containers/<id>/{upper,work}     overlayfs' writable layer; or rootfs, a copy, where overlayfs does not work
//	<root>/containers/<id>/{hosts,hostname,resolv.conf,ID-json.log}
//	<root>/containers/<id>/networks.json    its networks since the first connect or disconnect, in place of the record's; the folder is flocked by who changes them
//	<root>/volumes/<name>/                  volumes.go
//	<root>/names/<name>                     symbolic link to the id
//	<run root>/<id>/state.json              pid and start time of the running process
//	<run root>/<id>/cni.json                what CNI plugins made
//	<run root>/runtime/                     state of the OCI runtime
//
// Life cycle: Create writes folder, name and record; Start hands the container to a monitor, a process of its own
// ([RunMonitor]) or the caller (StartOptions.Here), which mounts the root file system, runs the container, notes its end in
// the record, and removes it if asked to. Running is not a
// stored word: a container runs if a process with the noted pid and start time is there, so a killed monitor, a killed
// command or a power cut leave nothing to repair. List and Find note the end of a container whose monitor died (exit
// status 255), and remove a folder without a record.
//
// Update changes a record and a running container's limits under the lock of names, under which the monitor notes the end, too: its own copy of
// the record is as old as the start. Paused is no status: such a container runs.
//
// Networks: the monitor takes the host ports first, so that one in use is an error before anything starts; then it makes the
// container, whose init waits while it gets its interfaces, /etc/hosts and a name server (in the monitor, at 127.0.0.11 in the
// container's namespace), and only then is started. At the end the monitor detaches it; after a kill -9 of the monitor, who notes
// the end does, or network.Reconcile. Until then the container goes on, without names, and its host ports are not held against
// other programs.
//
// Many processes use the folders at once; no lock is held but a container's own, and those for names and
// for a container's networks for a moment.
//
// Specs: the OCI runtime specification's config.md; defaults as Docker's daemon has them. Example:
//
//	e, err := engine.Open(engine.DefaultRoot, engine.DefaultRunRoot)
//	img, err := e.Store.Resolve("alpine")
//	c, lock, err := e.Create(img, engine.CreateOptions{Image: "alpine", Cmd: []string{"id"}})
//	client, err := e.Start(c, lock, engine.StartOptions{Stdout: os.Stdout, Stderr: os.Stderr})
//	end, err := client.Wait()
package engine
