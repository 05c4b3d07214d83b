package explain

import (
	"os"
	"strconv"
	"testing"
)

func BenchmarkGather(b *testing.B) {
	pid, _ := strconv.Atoi(os.Getenv("EXPLAIN_PID"))
	for b.Loop() {
		f, err := Gather(Options{PID: pid})
		if err != nil {
			b.Fatal(err)
		}
		if len(f.Text(Page{Rows: 40})) == 0 {
			b.Fatal()
		}
	}
}
