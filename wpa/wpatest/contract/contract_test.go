package contract

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"nigh/wpa/wpatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestContract runs the suite on scripted supplicants: 2.10 as it was recorded, and one with what came later.
func TestContract(t *testing.T) {
	t.Run("recorded", func(t *testing.T) { scripted(t, wpatest.NewAir(t, 3)) })
	t.Run("later", func(t *testing.T) { scripted(t, wpatest.NewLaterAir(t, 3)) })
}

func scripted(t *testing.T, air *wpatest.Air) {
	t.Helper()
	bed := Bed{Limit: 20 * time.Second, Expire: func() { air.Expire(air.Nodes[0]) }}
	for _, n := range air.Nodes {
		bed.Nodes = append(bed.Nodes, Node{Name: n.Name, Bus: n.Bus.Address, Kill: n.Kill, Start: n.Start})
	}
	Run(t, bed)
}
