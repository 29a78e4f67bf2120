# Makes what cargo-auditable has written into a binary, as auditable2cdx tells it, a list of what really is in the image: of the crates
# those that were built for its machine (not for the compiler's: macros and build scripts), and what was not a crate.
#   $name   of the program
#   $built  "crate version" of each crate that was built for the image's machine
#   $more   components beside crates
(.components | map(select("\(.name) \(.version)" | IN($built[])))) as $crates
| .metadata.component as $program
| (($crates + $more | map(."bom-ref")) + [$program."bom-ref"]) as $refs
| .metadata.component.name = $name
| .metadata.component.purl = "pkg:cargo/\($program.name)@\($program.version)"
| .components = $crates + $more
| .dependencies |= (map(select(.ref | IN($refs[])) | .dependsOn = ((.dependsOn // []) | map(select(IN($refs[]))))) + ($more | map({ref: ."bom-ref"})))
| (.dependencies[] | select(.ref == $program."bom-ref") | .dependsOn) += ($more | map(."bom-ref"))
