// A glimpse of a clip that is still being made: a small moving picture that sharpens step by step.

class Glimpse {
  constructor(model, el, signal) {
    this.image = element("img", { class: "svdlab-glimpse" });
    this.caption = element("figcaption", {});
    el.append(element("figure", { class: "svdlab-figure" }, this.image, this.caption));
    follow(model, ["picture", "caption", "width", "pixelated"], () => {
      showPicture(this.image, model.get("picture"), "image/webp", signal);
      this.image.alt = model.get("caption");
      this.image.style.width = `${model.get("width")}px`;
      this.image.classList.toggle("svdlab-pixelated", model.get("pixelated"));
      this.caption.textContent = model.get("caption");
    });
  }
}

export default definePart(Glimpse);
