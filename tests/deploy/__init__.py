"""What operators start: images, compositions, manifests and the dashboard of deploy/."""
