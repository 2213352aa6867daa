// Hostile makes the attacks of package hostile on an agent of your own, and says of each what the agent did. To attack an
// agent as a device that it trusts, let it trust the ID that -traitor prints: nigh trust add ID.
//
//	hostile [-run PATTERN] [-friend HOST:PORT] [-traitor] HOST:PORT
//	hostile -list
//
// Exit status 0 only when every attack reached the agent and was refused.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"regexp"
	"time"

	"nigh/lab/hostile"
)

func main() {
	list := flag.Bool("list", false, "print the names of the attacks")
	pattern := flag.String("run", "", "regular `expression` that the names of attacks must match")
	friend := flag.String("friend", "", "`address` of a device that the agent trusts")
	traitor := flag.Bool("traitor", false, "attack as a device that the agent trusts too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	wanted, err := regexp.Compile(*pattern)
	if err != nil {
		fail(2, err)
	}
	if *list {
		for _, a := range hostile.Attacks() {
			fmt.Println(a.Name)
		}
		return
	}
	var target hostile.Target
	if target.Addr, err = netip.ParseAddrPort(flag.Arg(0)); err != nil {
		fail(2, err)
	}
	if *friend != "" {
		if target.Friend, err = netip.ParseAddrPort(*friend); err != nil {
			fail(2, err)
		}
	}
	var trusted *hostile.Peer
	if *traitor {
		if trusted, err = hostile.New(target); err != nil {
			fail(1, err)
		}
		fmt.Printf("let the agent trust %s, with --auto-accept, and press return\n", trusted.ID)
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	}
	failed := 0
	for _, a := range hostile.Attacks() {
		if !wanted.MatchString(a.Name) || a.As == hostile.Traitor && trusted == nil {
			continue
		}
		p := trusted
		if a.As == hostile.Stranger {
			if p, err = hostile.New(target); err != nil {
				fail(1, err)
			}
		}
		one, cancel := context.WithTimeout(ctx, time.Minute)
		did, err := a.Run(one, p)
		cancel()
		switch {
		case ctx.Err() != nil:
			fail(1, ctx.Err())
		case errors.Is(err, hostile.ErrNeeds):
			fmt.Printf("skip %s: %v\n", a.Name, err)
		case err != nil:
			failed++
			fmt.Printf("FAIL %s: %v\n", a.Name, err)
		default:
			fmt.Printf("ok   %s: %s\n", a.Name, did)
		}
	}
	if failed > 0 {
		fail(1, fmt.Errorf("%d attacks were not refused", failed))
	}
}

func fail(code int, err error) {
	fmt.Fprintln(os.Stderr, "hostile:", err)
	os.Exit(code)
}
