package share

import (
	"fmt"
	"strings"
	"testing"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// The largest answers that a holder gives are ones that an asker takes.
func TestLargestAnswers(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada", nil), b.device("bob", nil)
	dir := t.TempDir()
	long := strings.Repeat(`"<&>`, 59)
	for i := range 1500 {
		files(t, dir, fmt.Sprintf("%s %04d", long, i))
	}
	ada.share(AddRequest{Folder: dir, Name: "s"})
	listed, after := 0, ""
	for more := true; more; {
		page, err := bob.Browse(t.Context(), ada.id, "s", ".", after, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		listed += len(page.Entries)
		after, more = page.Entries[len(page.Entries)-1].Name, page.More
	}
	if listed != 1500 {
		t.Errorf("listed %d of 1500", listed)
	}
	f := bob.Search(t.Context(), []identity.DeviceID{ada.id}, `"`, content.Hash{}, patience, nil)
	if len(f.Results) != MaxResults || !f.More || len(f.Failed) > 0 {
		t.Errorf("%d results, %v", len(f.Results), f.Failed)
	}
}
