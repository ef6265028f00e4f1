// Command bench measures ikegod and prints each figure beside its bar: `make bench`. Arguments name sections; without one all run.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// section is one group of figures.
type section struct {
	name string
	run  func() ([]row, error)
}

// row is one figure. Bar says what is to be reached and Peer what others reach on a like machine.
type row struct{ What, Measured, Bar, Peer string }

// sections are run in this order: what measures memory comes first, while the process is small.
var sections = []section{
	{"memory", memory},
	{"handshake", handshakes},
	{"packets", packets},
	{"datapath", datapath},
}

func main() {
	for _, arg := range os.Args[1:] {
		if !slices.ContainsFunc(sections, func(s section) bool { return s.name == arg }) {
			fmt.Fprintf(os.Stderr, "bench: no section %q\n", arg)
			os.Exit(2)
		}
	}
	failed := false
	for _, s := range sections {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], s.name) {
			continue
		}
		rows, err := s.run()
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", s.name, err)
			failed = true
			continue
		}
		print(s.name, rows)
	}
	if failed {
		os.Exit(1)
	}
}

func print(name string, rows []row) {
	fmt.Printf("%s\n", strings.ToUpper(name))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  what\tmeasured\tbar\tothers")
	for _, r := range rows {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", r.What, r.Measured, r.Bar, r.Peer)
	}
	w.Flush()
	fmt.Println()
}
