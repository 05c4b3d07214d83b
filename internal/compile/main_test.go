package compile

import (
	"testing"

	"vitro/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
