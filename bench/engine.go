package main
import "context"
func (b *bench) engine(ctx context.Context, t *table) error {return nil}
func (b *bench) pull(ctx context.Context, t *table) error {return nil}
