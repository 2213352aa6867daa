package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) inboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inbox",
		Short: "List what waits for your answer",
		Long: `List what waits for an answer: offers of files, devices that want to form a Wi-Fi
Direct group, and codes to compare for pairing. Answer with nigh accept or nigh
refuse.`,
		Example: `  nigh inbox
  nigh inbox --json | jq -r '.[].id' | xargs -r nigh refuse`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			items, err := a.agent().Inbox(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.document(items)
			}
			if len(items) == 0 {
				a.say("nothing waits for an answer")
				return nil
			}
			for _, item := range items {
				if err := a.printItem(item); err != nil {
					return err
				}
				if item.Warning != "" {
					if err := a.print("          WARNING: %s", item.Warning); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
	a.jsonFlag(cmd, "a JSON array of what waits")
	return cmd
}

// printItem prints what a person must know to say yes or no.
func (a *app) printItem(item control.InboxItem) error {
	who := fmt.Sprintf("%s (%s, %s)", orDash(item.PeerName), item.Trust, orDash(short(item.Peer, 9)))
	if item.Kind == "group" {
		text := who + " wants to form a Wi-Fi Direct group"
		switch {
		case item.PIN != "":
			text += "; PIN " + item.PIN
		case item.Method == "enter_pin":
			text += "; the other device shows a PIN"
		}
		return a.print("%s  %s%s", short(item.ID, 14), text, expiry(item))
	}
	if item.Kind == "pair" {
		text := who + " wants to pair"
		if item.Own {
			text = "you want to pair with " + who
		}
		if item.Answered {
			text += "; waiting for its answer"
		}
		return a.print("%s  %s; code %s, accept only if it shows the same one%s", item.ID, text, spaced(item.Code), expiry(item))
	}
	t := control.Transfer{Name: "?"}
	if item.Transfer != nil {
		t = *item.Transfer
	}
	if err := a.print("%s  %s sends %s (%s)%s", short(item.ID, 8), who, t.Name, contents(t), expiry(item)); err != nil {
		return err
	}
	// More names than these belong into --json. Hidden ones come first: they are
	// what a person must not miss.
	const most = 5
	if len(t.Names) == 1 && t.Names[0] == t.Name {
		return nil
	}
	names := slices.Clone(t.Names)
	sort.SliceStable(names, func(i, j int) bool { return visible(names[i]) < visible(names[j]) })
	for i, name := range names {
		if i == most {
			return a.print("          ... and %d more", max(len(t.Names), t.Files+t.Dirs)-most)
		}
		if err := a.print("          %s", name); err != nil {
			return err
		}
	}
	return nil
}

// visible returns 0 for the name of a hidden file and 1 for any other.
func visible(name string) int {
	if strings.HasPrefix(name, ".") {
		return 0
	}
	return 1
}

// contents says what a transfer holds and what to look out for.
func contents(t control.Transfer) string {
	text := count(t.Files, "file", "files")
	if t.Dirs > 0 {
		text += ", " + count(t.Dirs, "folder", "folders")
	}
	text += ", " + size(t.BytesTotal)
	if t.Dotfiles {
		text += ", hidden files among them"
	}
	if t.Executables {
		text += ", programs among them"
	}
	return text
}

func expiry(item control.InboxItem) string {
	if item.Expires < 0 {
		return ""
	}
	return ", refused by itself in " + span(item.Expires)
}

// short returns the first n bytes of an ID, which is ASCII.
func short(id string, n int) string {
	if len(id) > n {
		return id[:n]
	}
	return id
}

// item finds an inbox item by its ID or an unambiguous prefix of it.
func (a *app) item(ctx context.Context, id string) (control.InboxItem, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	items, err := a.agent().Inbox(ctx)
	if err != nil {
		return control.InboxItem{}, err
	}
	var fit []control.InboxItem
	for _, item := range items {
		if item.ID == id {
			return item, nil
		}
		if id != "" && strings.HasPrefix(item.ID, id) {
			fit = append(fit, item)
		}
	}
	switch len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		return control.InboxItem{}, &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("nothing waits under the ID %q", id),
			Hint: "nigh inbox lists what waits"}
	default:
		return control.InboxItem{}, &control.Error{Code: control.CodeAmbiguous, Message: fmt.Sprintf("%d things wait under an ID that begins with %q", len(fit), id),
			Hint: "give more of the ID"}
	}
}

func (a *app) acceptCommand() *cobra.Command {
	var r control.AcceptRequest
	var wait bool
	cmd := &cobra.Command{
		Use:   "accept ID...",
		Short: "Accept what a device offers",
		Long: `Accept offers of files, requests to form a Wi-Fi Direct group, or pairing, by their
IDs in nigh inbox; the beginning of an ID is enough. Where the other device shows a
PIN, it is asked for, or read from standard input. Accept pairing only when the
other device shows the same code; the command waits until both have answered.`,
		Example: `  nigh accept 3f2a
  nigh accept 3f2a --into ~/Pictures --wait`,
		Args: takes(1, -1, "the ID of what waits"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if r.Into != "" {
				// The agent has another working folder than this command.
				into, err := filepath.Abs(r.Into)
				if err != nil {
					return err
				}
				r.Into = into
			}
			var accepted []control.Transfer
			for _, id := range args {
				item, err := a.item(ctx, id)
				if err != nil {
					return err
				}
				answer := r
				if item.Method == "enter_pin" {
					if answer.PIN, err = a.askPIN(cmd); err != nil {
						return err
					}
				}
				if err := a.agent().Accept(ctx, item.ID, answer); err != nil {
					return err
				}
				if item.Kind == "pair" {
					a.say("said yes to the code %s; waiting for the answer of %s", spaced(item.Code), orDash(item.PeerName))
					if err := a.outcomeOf(ctx, item.ID, nil); err != nil {
						return err
					}
				} else if item.Transfer != nil {
					accepted = append(accepted, *item.Transfer)
					a.say("accepted %s from %s", item.Transfer.Name, orDash(item.PeerName))
				} else {
					a.say("accepted %s", orDash(item.PeerName))
				}
			}
			if !wait || len(accepted) == 0 {
				return nil
			}
			return a.wait(ctx, accepted, waitOptions{})
		},
		ValidArgsFunction: a.completeInbox,
	}
	f := cmd.Flags()
	f.StringVar(&r.Into, "into", "", "receive into the folder `DIR` (default the agent's inbox)")
	f.BoolVar(&r.Always, "always", false, "from now on accept from this trusted device without asking")
	f.BoolVar(&wait, "wait", false, "wait until everything is received")
	return cmd
}

func (a *app) refuseCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "refuse ID...",
		Short:   "Refuse what a device offers",
		Example: `  nigh refuse 3f2a`,
		Args:    takes(1, -1, "the ID of what waits"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				item, err := a.item(cmd.Context(), id)
				if err != nil {
					return err
				}
				if err := a.agent().Refuse(cmd.Context(), item.ID); err != nil {
					return err
				}
				a.say("refused %s", orDash(item.PeerName))
			}
			return nil
		},
		ValidArgsFunction: a.completeInbox,
	}
}
