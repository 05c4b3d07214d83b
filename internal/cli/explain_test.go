package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vitro/internal/explain"
)

// do runs a verb in this process; what it prints and its error.
func do(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newRoot(&app{}, nil)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append([]string{"--root", t.TempDir()}, args...))
	err := cmd.Execute()
	return out.String(), err
}

func TestExplainVerbs(t *testing.T) {
	self := fmt.Sprint(os.Getpid())
	out, err := do(t, "explain", self, "--format", "json", "--view", "users,processes")
	if err != nil || json.Unmarshal([]byte(out), &struct{ Users *explain.Users }{}) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, key := range []string{`"Users"`, `"Processes"`} {
		if !strings.Contains(out, key) {
			t.Errorf("no %s in %s", key, out)
		}
	}
	if strings.Contains(out, `"Mounts"`) {
		t.Errorf("a view that was not asked for: %s", out)
	}
	if out, err = do(t, "ns", self); err != nil || !strings.Contains(out, "user") {
		t.Errorf("%v: %s", err, out)
	}
	file := filepath.Join(t.TempDir(), "snapshot")
	if out, err = do(t, "cgroup", "--save", file); err != nil || out != "" {
		t.Errorf("%v: %s", err, out)
	}
	if _, err = do(t, "cgroup", "--since", file); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"explain nobody", "no running container and no process: nobody"},
		{"explain " + self + " --view all", `--view: "all" is not one of processes, namespaces, cgroup, capabilities, mounts, users, network, security`},
		{"explain " + self + " --format xml", `--format: "xml" is neither text nor json`},
		{"ns 4194305", "process 4194305: no such process"},
		{"ns 4294967295", "namespace 4294967295: no process and no mount on this machine has it"},
		{"ns nobody", "no running container and no process: nobody (nor an inode of a namespace)"},
		{"trace exec nobody", "no running container and no process: nobody"},
		{"trace exec --all " + self, "--all and a container do not go together"},
	} {
		if _, err := do(t, strings.Fields(tt.args)...); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.args, err, tt.want)
		}
	}
}
