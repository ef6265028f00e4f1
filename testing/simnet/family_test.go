package simnet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
)

// family makes connections that differ in their subnets alone, each with so many children: they share one IKE SA.
func family(mode policy.TCPMode, children ...int) *policy.Set {
	set := Set(nil)
	set.Connections = nil
	for i, n := range children {
		c := Connection(mode)
		c.Name = fmt.Sprintf("conn-%d", i)
		child := c.Children[0]
		c.Children = nil
		for j := range n {
			child.Name = fmt.Sprintf("conn-%d/%dx%d", i, j+1, j+1)
			child.Left, child.Right = subnet(fmt.Sprintf("10.%d.%d.0/24", i, j)), subnet(fmt.Sprintf("10.%d.%d.0/24", 100+i, j))
			c.Children = append(c.Children, child)
		}
		c.Left.Subnets, c.Right.Subnets = nil, nil
		set.Connections = append(set.Connections, c)
	}
	return set
}

// inFamily runs f in a world where both ends have set, and asks in the end that nothing is left in either daemon.
func inFamily(t *testing.T, seed uint64, f Faults, shards int, set *policy.Set, do func(t *testing.T, w *World)) {
	t.Helper()
	inBubble(t, seed, f, shards, func(t *testing.T, w *World) {
		for _, n := range []*Node{w.West, w.East} {
			n.load(t, set)
			time.Sleep(time.Millisecond)
		}
		do(t, w)
		w.shutdown(t)
	})
}

// one checks that there is one IKE SA with so many Child SAs, at both ends.
func (w *World) one(t *testing.T, children int) {
	t.Helper()
	w.agreed(t, children)
	for _, n := range []*Node{w.West, w.East} {
		if s := n.Snapshots(); len(s) != 1 {
			t.Errorf("%s has %d IKE SAs", n.Name, len(s))
		}
		if s := n.Engine.Stats(); s.Established != 1 || s.Children != int64(children) {
			t.Errorf("%s: %+v", n.Name, s)
		}
	}
}

func (n *Node) states() string {
	var words []string
	for _, c := range n.Engine.Connections() {
		words = append(words, c.State)
	}
	return strings.Join(words, ",")
}

var carriersOf = map[string]policy.TCPMode{"udp": policy.TCPNo, "tcp": policy.TCPYes}
