package conf

import (
	"fmt"
	"slices"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/ts"
)

// part is what one element of leftsubnets= protects, with its number as libreswan counts: from 1, and 0 for leftsubnet= beside it or the host itself.
type part struct {
	number int
	set    ts.Set // empty: the host itself
}

// maxChildren bounds the Child SAs of one connection.
const maxChildren = 1000

// several reads leftsubnets=: every time that it is written, and in %default.
func (b *build) several(s side, pp protoPort, pe *entry) ts.Set {
	var set ts.Set
	for _, e := range b.all("subnets", s) {
		v, err := e.parse()
		if err != nil {
			b.fault(e, err)
			continue
		}
		for _, x := range b.subnets(e, v.([]subnet), pp, pe) {
			if slices.Contains(set, x) {
				b.warn(e, Warning, fmt.Sprintf("%s is in %s= twice", x, e.word), "remove one of them")
				continue
			}
			set = append(set, x)
		}
	}
	return set
}

// children makes, with leftsubnets= or rightsubnets=, a Child SA for each pair of a left and a right element, like the one that is there. A pair of different
// families, or of the same network at both ends, is left out.
func (b *build) children(c *policy.Connection) {
	if !b.listed {
		return
	}
	e := b.get("subnets", left)
	if e == nil {
		e = b.get("subnets", right)
	}
	if n := len(b.parts[left]) * len(b.parts[right]); n > maxChildren {
		b.refuseEntry(e, fmt.Sprintf("leftsubnets= and rightsubnets= make %d Child SAs, more than %d", n, maxChildren), "write fewer, wider subnets, or several in leftsubnet= with commas between")
		return
	}
	like := c.Children[0]
	c.Children = nil
	for _, l := range b.parts[left] {
		for _, r := range b.parts[right] {
			child := like
			child.Name, child.Left, child.Right = fmt.Sprintf("%s/%dx%d", c.Name, l.number, r.number), l.set, r.set
			switch lf, rf := partFamily(l, c.Left), partFamily(r, c.Right); {
			case lf != rf && lf != policy.FamilyAny && rf != policy.FamilyAny:
				b.warn(e, Note, fmt.Sprintf("no Child SA %s: its left side is IPv%d, its right side IPv%d", child.Name, lf, rf), "")
			case len(l.set) > 0 && l.set.Equal(r.set):
				b.warn(e, Warning, fmt.Sprintf("no Child SA %s: %s is on both sides", child.Name, l.set), "")
			default:
				c.Children = append(c.Children, child)
			}
		}
	}
	if len(c.Children) == 0 && !b.failed {
		b.refuseEntry(e, "no pair of a left and a right subnet makes a Child SA", "")
	}
}

// partFamily is the family of what a part protects.
func partFamily(p part, e policy.End) policy.Family {
	if len(p.set) > 0 {
		return hostFamily(policy.Host{Addr: p.set[0].Start})
	}
	return hostFamily(e.Host)
}
