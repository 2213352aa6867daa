package contract

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"nigh/wpa/wpatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestContract runs the suite on scripted supplicants.
func TestContract(t *testing.T) {
	air := wpatest.NewAir(t, 3)
	bed := Bed{Limit: 20 * time.Second, Expire: func() { air.Expire(air.Nodes[0]) }}
	for _, n := range air.Nodes {
		bed.Nodes = append(bed.Nodes, Node{Name: n.Name, Bus: n.Bus.Address, Kill: n.Kill, Start: n.Start})
	}
	Run(t, bed)
}
