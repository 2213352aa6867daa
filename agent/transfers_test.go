package agent

import (
	"testing"

	"nigh/agent/transfer"
)

// Progress of what is received is no news for the inbox.
func TestInboxHearsOfAnswersOnly(t *testing.T) {
	var waiting waiting
	for i, step := range []struct {
		state transfer.State
		news  bool
	}{
		{transfer.Queued, false}, {transfer.Running, false}, {transfer.Waiting, true}, {transfer.Waiting, true},
		{transfer.Queued, true}, {transfer.Running, false}, {transfer.Running, false}, {transfer.Done, false},
	} {
		if got := waiting.changed("x", step.state == transfer.Waiting); got != step.news {
			t.Errorf("step %d, %s: news %t", i, step.state, got)
		}
	}
	if len(waiting.ids) != 0 {
		t.Errorf("kept: %v", waiting.ids)
	}
}
