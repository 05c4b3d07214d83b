package network

// txn arms the undo of each step when it is done. rollback undoes them, last first, unless commit was called.
type txn struct {
	undo   []func()
	inject func(step string) error
}

// do runs a step. undo may be nil.
func (t *txn) do(step string, act func() error, undo func()) error {
	if err := act(); err != nil {
		return err
	}
	if undo != nil {
		t.undo = append(t.undo, undo)
	}
	if t.inject != nil {
		return t.inject(step)
	}
	return nil
}

func (t *txn) commit() { t.undo = nil }

func (t *txn) rollback() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		t.undo[i]()
	}
	t.undo = nil
}

// at is where tests make a process end that is not undone by a txn.
func (m *Manager) at(step string) error {
	if m.inject == nil {
		return nil
	}
	return m.inject(step)
}
